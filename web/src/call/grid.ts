// Where tiles go: the number of columns that shows the most picture.

export interface Grid {
  columns: number
  rows: number
  width: number
  height: number
}

/** Widest picture that is not cropped, as width / height. */
const widest = 16 / 9

/**
 * Sizes n equal tiles for a box of width × height CSS pixels with the given gap. Tiles stay between
 * 16:9 and a narrowest shape that depends on how the box is held: upright phones may crop faces to a
 * portrait, screens that are wide keep 4:3.
 */
export function fitGrid(n: number, width: number, height: number, gap: number): Grid {
  if (n < 1 || width <= 0 || height <= 0) return { columns: 1, rows: 1, width: 0, height: 0 }
  const upright = height > width
  const narrowest = upright ? (n === 1 ? 0.5 : 0.62) : n === 1 ? 1.2 : 4 / 3
  let best: Grid | undefined
  for (let columns = 1; columns <= n; columns++) {
    const rows = Math.ceil(n / columns)
    const cellW = (width - gap * (columns - 1)) / columns
    const cellH = (height - gap * (rows - 1)) / rows
    if (cellW <= 0 || cellH <= 0) continue
    const w = Math.floor(Math.min(cellW, cellH * widest))
    const h = Math.floor(Math.min(cellH, w / narrowest))
    if (!best || w * h > best.width * best.height) best = { columns, rows, width: w, height: h }
  }
  return best ?? { columns: 1, rows: n, width: Math.floor(width), height: Math.floor(height / n) }
}
