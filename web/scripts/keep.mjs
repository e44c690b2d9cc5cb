// dist/.gitkeep is committed so that Go can embed the folder before the page is built;
// vite empties the folder on every build, so put the marker back.
import { writeFileSync } from 'node:fs'

writeFileSync(new URL('../dist/.gitkeep', import.meta.url), '')
