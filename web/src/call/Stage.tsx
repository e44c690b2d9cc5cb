import { type CSSProperties, useEffect, useRef, useState } from 'react'
import { InviteIcon } from '../ui/icons'
import { fitGrid } from './grid'
import type { Inspector } from './inspect'
import type { Tile } from './view'
import { TileView } from './TileView'

const gap = 8

interface Props {
  tiles: Tile[]
  inspect: Inspector
  alone: boolean
  onInvite(): void
}

/** All tiles: an even grid, or one shared screen with a strip of faces beside it. */
export function Stage({ tiles, inspect, alone, onInvite }: Props) {
  const ref = useRef<HTMLDivElement>(null)
  const [size, setSize] = useState({ width: 0, height: 0 })
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      if (entry) setSize({ width: entry.contentRect.width, height: entry.contentRect.height })
    })
    if (ref.current) observer.observe(ref.current)
    return () => observer.disconnect()
  }, [])

  const screen = tiles.find((t) => t.screen)
  const grid = fitGrid(tiles.length, size.width, size.height, gap)
  const style = { '--tile-w': `${grid.width}px`, '--tile-h': `${grid.height}px` } as CSSProperties
  const views = (list: Tile[]) => list.map((t) => <TileView key={t.key} tile={t} inspect={inspect} />)

  return (
    <section className="stage" ref={ref} aria-label="Participants" data-testid="stage">
      {screen ? (
        <div className="share">
          <div className="share-main">{views([screen])}</div>
          <div className="share-strip">{views(tiles.filter((t) => t !== screen))}</div>
        </div>
      ) : (
        <div className="grid" style={style}>{views(tiles)}</div>
      )}
      {alone && (
        <div className="alone">
          <p>Nobody else is here yet.</p>
          <button type="button" className="button primary" onClick={onInvite}><InviteIcon size={18} />Invite someone</button>
        </div>
      )}
    </section>
  )
}
