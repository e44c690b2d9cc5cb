import { useState } from 'react'
import { type Edge, regionLabel } from '../edges'
import { CheckIcon, ChevronIcon, GlobeIcon } from '../ui/icons'
import type { EdgesState } from './useEdges'

interface Props {
  regions: Edge[]
  state: EdgesState['state']
  pinned?: string
  onPin(region: string | undefined): void
  onRetry(): void
}

export function RegionPicker({ regions, state, pinned, onPin, onRetry }: Props) {
  const [open, setOpen] = useState(false)
  const nearest = regions[0]
  const current = pinned ? regions.find((e) => e.region === pinned) : nearest
  const title = pinned ? regionLabel(pinned) : nearest ? regionLabel(nearest.region) : state === 'looking' ? 'Looking for the nearest edge…' : 'Nearest edge'
  const detail = state === 'silent' ? 'No node answered' : current ? `${pinned ? 'Your choice' : 'Nearest'}${rtt(current)}` : pinned && state === 'found' ? 'Not in this mesh: the nearest edge is used' : ' '
  const choose = (region: string | undefined) => {
    onPin(region)
    setOpen(false)
  }
  return (
    <div className="region" data-testid="region">
      <div className="region-row">
        <span className="region-globe"><GlobeIcon size={20} /></span>
        <div className="region-text">
          <strong>{title}</strong>
          <small className={state === 'silent' ? 'bad' : ''}>{detail}</small>
        </div>
        {state === 'silent' ? (
          <button type="button" className="button small" onClick={onRetry}>Try again</button>
        ) : (
          <button type="button" className="button small quiet" onClick={() => setOpen(!open)} aria-expanded={open} disabled={regions.length === 0}>
            Change <ChevronIcon size={16} />
          </button>
        )}
      </div>
      {open && (
        <div className="region-list" role="radiogroup" aria-label="Region">
          <Option label="Automatic" detail={nearest ? regionLabel(nearest.region) : ''} on={!pinned} choose={() => choose(undefined)} />
          {regions.map((e) => (
            <Option key={e.region} label={regionLabel(e.region)} detail={about(e)} on={pinned === e.region} choose={() => choose(e.region)} />
          ))}
        </div>
      )}
    </div>
  )
}

function Option({ label, detail, on, choose }: { label: string; detail: string; on: boolean; choose(): void }) {
  return (
    <button type="button" role="radio" aria-checked={on} className="region-option" onClick={choose}>
      <span>{label}</span>
      <small>{detail}</small>
      {on ? <CheckIcon size={18} /> : <span className="region-gap" />}
    </button>
  )
}

function rtt(e: Edge): string {
  return e.expected_rtt_ms === undefined ? '' : ` · ${Math.max(1, Math.round(e.expected_rtt_ms))} ms away`
}

function about(e: Edge): string {
  const parts = []
  if (e.distance_km !== undefined) parts.push(`${Math.round(e.distance_km).toLocaleString('en')} km`)
  if (e.expected_rtt_ms !== undefined) parts.push(`${Math.max(1, Math.round(e.expected_rtt_ms))} ms`)
  return parts.join(' · ')
}
