import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

// The page is embedded in the node's binary and served under whatever path the operator
// chooses: every URL in the output is relative, and nothing is inlined (a strict
// Content-Security-Policy without 'unsafe-inline' must do).
export default defineConfig({
  base: './',
  plugins: [react()],
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 900,
    reportCompressedSize: true,
  },
  server: {
    proxy: { '/v1': process.env.MERIDIAN_NODE ?? 'http://127.0.0.1:7880' },
  },
})
