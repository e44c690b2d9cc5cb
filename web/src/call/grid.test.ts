import { describe, expect, it } from 'vitest'
import { fitGrid } from './grid'

const shape = (n: number, w: number, h: number) => {
  const g = fitGrid(n, w, h, 8)
  return `${g.columns}x${g.rows}`
}

describe('fitGrid', () => {
  it.each([
    [1, '1x1'], [2, '1x2'], [3, '1x3'], [4, '2x2'], [5, '2x3'], [6, '2x3'], [9, '2x5'],
  ])('lays %i tiles out on a phone held upright', (n, want) => expect(shape(n, 374, 680)).toBe(want))

  it.each([
    [1, '1x1'], [2, '2x1'], [3, '2x2'], [4, '2x2'], [5, '3x2'], [6, '3x2'], [9, '3x3'],
  ])('lays %i tiles out on a desktop screen', (n, want) => expect(shape(n, 1400, 780)).toBe(want))

  it('never leaves the box', () => {
    for (const [w, h] of [[320, 480], [390, 700], [844, 300], [1440, 800], [3000, 400]] as const) {
      for (let n = 1; n <= 25; n++) {
        const g = fitGrid(n, w, h, 8)
        expect(g.columns * g.width + (g.columns - 1) * 8).toBeLessThanOrEqual(w)
        expect(g.rows * g.height + (g.rows - 1) * 8).toBeLessThanOrEqual(h)
        expect(g.columns * g.rows).toBeGreaterThanOrEqual(n)
      }
    }
  })

  it('survives a box without room', () => expect(fitGrid(3, 0, 0, 8).width).toBe(0))
})
