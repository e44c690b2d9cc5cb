// Package web holds the call page: a mobile-first video call in the browser, built with Vite and
// embedded in the binary.
//
//	browser ── GET / ─────────► index.html, assets/*   (this package)
//	        ── GET /v1/edges ─► ranked edges           (node/api)
//	        ── POST /v1/edge ─► server_url + token     (node/api)
//	        ── WebSocket ─────► signalling of an edge  (node/signal)
//
// # Doors
//
// [FS] gives the built page as a file system rooted at the folder that holds index.html. All URLs
// in it are relative, so it can be served under any path. Files under assets/ carry a content hash
// in their name and may be cached for ever; index.html must be revalidated.
//
// # Goroutines
//
// None.
//
// # Units and limits
//
// The page is about 300 kB after compression. It contains no inline script and loads nothing from
// another host, so it works under
//
//	default-src 'self'; connect-src *; media-src 'self' blob: mediastream:; style-src 'self'
//
// Before `make web` has run, the folder holds only a marker file, and FS gives a page that says so.
//
// # References
//
// README.md in this folder: the sources, the browser suite and how to run them.
package web
