import { type FormEvent, useEffect, useRef, useState } from 'react'
import { CloseIcon, SendIcon } from '../ui/icons'
import type { ChatEntry } from './view'

const maxLength = 2000

export function ChatPanel({ chat, onSend, onClose }: { chat: ChatEntry[]; onSend(text: string): void; onClose(): void }) {
  const [draft, setDraft] = useState('')
  const end = useRef<HTMLDivElement>(null)
  useEffect(() => {
    void end.current?.scrollIntoView({ block: 'end' }) // newer browsers return a promise, which is no clean-up function
  }, [chat.length])

  const send = (e: FormEvent) => {
    e.preventDefault()
    if (!draft.trim()) return
    onSend(draft)
    setDraft('')
  }

  return (
    <aside className="panel" aria-label="Chat" data-testid="chat-panel">
      <header className="panel-head">
        <h2>Chat</h2>
        <button type="button" className="icon-button" onClick={onClose} aria-label="Close chat"><CloseIcon /></button>
      </header>
      <div className="chat-list" role="log" aria-live="polite">
        {chat.length === 0 && <p className="panel-hint">Messages reach those who are in the call now. They are not kept.</p>}
        {chat.map((c, i) => (
          <div key={c.id} className="message" data-local={c.local}>
            {(i === 0 || chat[i - 1]?.from !== c.from) && (
              <div className="message-head"><strong>{c.local ? 'You' : c.from}</strong><time>{c.at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })}</time></div>
            )}
            <p>{c.text}</p>
          </div>
        ))}
        <div ref={end} />
      </div>
      <form className="chat-form" onSubmit={send}>
        <input value={draft} onChange={(e) => setDraft(e.target.value)} placeholder="Message everyone" aria-label="Message everyone" maxLength={maxLength} enterKeyHint="send" autoFocus data-testid="chat-input" />
        <button type="submit" className="icon-button filled" aria-label="Send" disabled={!draft.trim()}><SendIcon size={20} /></button>
      </form>
    </aside>
  )
}
