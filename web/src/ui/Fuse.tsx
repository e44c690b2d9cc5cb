import { Component, type ReactNode } from 'react'
import { Logo } from './icons'

/** Stands between a fault of ours and a blank page. */
export class Fuse extends Component<{ children: ReactNode }, { blown: boolean }> {
  override state = { blown: false }

  static getDerivedStateFromError() {
    return { blown: true }
  }

  override render() {
    if (!this.state.blown) return this.props.children
    return (
      <main className="ended">
        <div className="ended-card" role="alert">
          <Logo size={44} />
          <h1>The page stumbled</h1>
          <p>That is our fault, not yours. Reload to get back into the call.</p>
          <div className="ended-actions">
            <button type="button" className="button primary" onClick={() => location.reload()}>Reload</button>
          </div>
        </div>
      </main>
    )
  }
}
