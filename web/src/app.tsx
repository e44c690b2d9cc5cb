import { lazy, Suspense, useCallback, useEffect, useMemo, useRef, useState } from 'react'
import type { JoinRequest, Session } from './call/session'
import { Ended } from './call/Ended'
import { Lobby, type LobbyChoice } from './lobby/Lobby'
import { newIdentity, randomRoom } from './names'
import { parseParams } from './params'
import { loadPrefs, savePrefs } from './prefs'
import type { Problem } from './problems'
import { Logo } from './ui/icons'

// livekit-client is most of the page: it is fetched while the person looks at the lobby.
const loadSession = () => import('./call/session')
const Call = lazy(() => import('./call/Call'))

type View = { at: 'lobby' } | { at: 'call'; session: Session } | { at: 'ended'; request: JoinRequest; problem?: Problem }

export function App() {
  const params = useMemo(() => parseParams(location.search, location.hash), [])
  const [room, setRoom] = useState(() => params.room ?? randomRoom())
  const [view, setView] = useState<View>({ at: 'lobby' })
  const [loadFailed, setLoadFailed] = useState(false)
  const started = useRef(false)

  const join = useCallback(async (request: JoinRequest) => {
    let module: Awaited<ReturnType<typeof loadSession>>
    try {
      module = await loadSession()
    } catch {
      setLoadFailed(true)
      return
    }
    const session = new module.Session(request)
    setView({ at: 'call', session })
    await session.start()
  }, [])

  const joinFromLobby = useCallback(
    (choice: LobbyChoice) => {
      savePrefs({ name: choice.name, camera: choice.camera, microphone: choice.microphone, cameraOn: choice.cameraOn, microphoneOn: choice.microphoneOn })
      const url = new URL(location.href)
      url.searchParams.set('room', choice.room)
      history.replaceState(null, '', url)
      setRoom(choice.room)
      return join({ ...choice, identity: newIdentity(choice.name), clientIp: params.clientIp, pass: params.pass, singlePeerConnection: params.singlePeerConnection, video: params.video, codec: params.codec })
    },
    [join, params],
  )

  useEffect(() => {
    void loadSession().catch(() => undefined)
    if (!params.autojoin || started.current) return
    started.current = true
    void joinFromLobby({ room, name: params.name ?? 'Guest', region: params.region, edges: [], cameraOn: true, microphoneOn: true })
  }, [joinFromLobby, params, room])

  useEffect(() => {
    document.title = view.at === 'call' ? `${room} · Meridian` : 'Meridian'
  }, [view, room])

  const ended = useCallback((request: JoinRequest, problem: Problem | undefined) => setView({ at: 'ended', request, problem }), [])

  switch (view.at) {
    case 'lobby':
      if (params.autojoin && !loadFailed) return <Splash />
      return <Lobby params={params} room={room} prefs={loadPrefs()} loadFailed={loadFailed} onJoin={joinFromLobby} />
    case 'call':
      return (
        <Suspense fallback={<Splash />}>
          <Call session={view.session} onEnded={ended} />
        </Suspense>
      )
    case 'ended':
      return <Ended room={view.request.room} problem={view.problem} onRejoin={() => void join(view.request)} onLobby={() => setView({ at: 'lobby' })} />
  }
}

function Splash() {
  return (
    <main className="splash" aria-busy="true">
      <Logo size={48} />
      <p>Joining…</p>
    </main>
  )
}
