import { type CSSProperties, memo, useEffect, useRef } from 'react'
import { regionLabel } from '../edges'
import { hue, initials } from '../names'
import { MicOffIcon } from '../ui/icons'
import type { Inspector } from './inspect'
import type { Quality, Tile } from './view'

const bars: Record<Quality, number> = { excellent: 3, good: 2, poor: 1, lost: 0, unknown: -1 }
const spoken: Record<Quality, string> = { excellent: 'Excellent connection', good: 'Good connection', poor: 'Poor connection', lost: 'Connection lost', unknown: '' }

export const TileView = memo(
  function TileView({ tile: t, inspect }: { tile: Tile; inspect: Inspector }) {
    const label = t.screen ? `${t.local ? 'Your' : `${t.name}’s`} screen` : t.local ? `${t.name} (you)` : t.name
    return (
      <article className="tile" data-identity={t.identity} data-local={t.local} data-screen={t.screen} data-speaking={t.speaking} data-muted={!t.micOn} data-video={Boolean(t.track)} aria-label={label}>
        {t.track ? (
          <Video tile={t} inspect={inspect} />
        ) : (
          <div className="tile-empty" style={{ '--hue': hue(t.identity) } as CSSProperties}>
            <span className="avatar" style={{ '--hue': hue(t.identity) } as CSSProperties}>{initials(t.name)}</span>
          </div>
        )}
        {t.region && !t.screen && <span className="tile-region" title={regionLabel(t.region)}>{t.region}</span>}
        <footer className="tile-foot">
          <span className="tile-name">
            {!t.micOn && !t.screen && <span className="tile-muted" role="img" aria-label="Muted"><MicOffIcon size={15} /></span>}
            <span>{label}</span>
          </span>
          {bars[t.quality] >= 0 && !t.screen && (
            <span className="bars" data-level={bars[t.quality]} role="img" aria-label={spoken[t.quality]} title={spoken[t.quality]}><i /><i /><i /></span>
          )}
        </footer>
      </article>
    )
  },
  (a, b) => a.inspect === b.inspect && (Object.keys(b.tile) as (keyof Tile)[]).every((k) => a.tile[k] === b.tile[k]),
)

function Video({ tile, inspect }: { tile: Tile; inspect: Inspector }) {
  const ref = useRef<HTMLVideoElement>(null)
  const { track, identity, local, screen } = tile
  useEffect(() => {
    const element = ref.current
    if (!element || !track) return
    track.attach(element)
    const unwatch = local || screen ? undefined : inspect.watch(identity, element)
    return () => {
      unwatch?.()
      track.detach(element)
    }
  }, [track, identity, local, screen, inspect])
  return <video ref={ref} className={local && !screen ? 'mirrored' : ''} autoPlay playsInline muted={local} />
}
