package web

import (
	"embed"
	"io/fs"
)

// files holds what `npm run build` writes to dist (only .gitkeep of it is committed) and the page
// that stands in for it until then.
//
//go:embed all:dist unbuilt
var files embed.FS

// Built says whether the binary carries the page. Safe from any goroutine.
func Built() bool {
	_, err := fs.Stat(files, "dist/index.html")
	return err == nil
}

// FS returns the page, rooted at the folder of index.html. In a binary built without the page its
// only file is an index.html that says "page not built: run make web". Safe from any goroutine.
func FS() fs.FS {
	if Built() {
		return sub("dist")
	}
	return sub("unbuilt")
}

func sub(folder string) fs.FS {
	root, err := fs.Sub(files, folder)
	if err != nil { // Sub refuses only malformed paths, and ours are constants
		panic("web: " + err.Error())
	}
	return root
}
