package web

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFSAlwaysHasAnIndex(t *testing.T) {
	page, err := fs.ReadFile(FS(), "index.html")
	require.NoError(t, err)
	if Built() {
		require.Contains(t, string(page), `id="root"`)
		require.NotContains(t, string(page), "<script>", "an inline script would need 'unsafe-inline'")
	} else {
		require.Contains(t, string(page), "run make web")
	}
}

func TestUnbuiltPageSaysTheWayOut(t *testing.T) {
	page, err := fs.ReadFile(sub("unbuilt"), "index.html")
	require.NoError(t, err)
	require.Contains(t, string(page), "page not built: run make web")
}
