import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { App } from './app'
import { Fuse } from './ui/Fuse'
import './styles/base.css'
import './styles/lobby.css'
import './styles/call.css'

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <Fuse>
      <App />
    </Fuse>
  </StrictMode>,
)
