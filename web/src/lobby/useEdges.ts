import { useCallback, useEffect, useState } from 'react'
import { type Edge, listEdges } from '../edges'

export interface EdgesState {
  edges: Edge[]
  state: 'looking' | 'found' | 'silent'
  retry(): void
}

export function useEdges(clientIp: string | undefined): EdgesState {
  const [found, setFound] = useState<{ edges: Edge[]; state: EdgesState['state'] }>({ edges: [], state: 'looking' })
  const [attempt, setAttempt] = useState(0)
  useEffect(() => {
    let gone = false
    listEdges(clientIp).then(
      (edges) => !gone && setFound({ edges, state: 'found' }),
      () => !gone && setFound({ edges: [], state: 'silent' }),
    )
    return () => {
      gone = true
    }
  }, [clientIp, attempt])
  const retry = useCallback(() => {
    setFound({ edges: [], state: 'looking' })
    setAttempt((n) => n + 1)
  }, [])
  return { ...found, retry }
}
