// Line icons on a 24-unit grid, drawn for this page.
import type { ReactNode } from 'react'

function icon(children: ReactNode) {
  return function Icon({ size = 22 }: { size?: number }) {
    return (
      <svg width={size} height={size} viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.9" strokeLinecap="round" strokeLinejoin="round" aria-hidden="true">
        {children}
      </svg>
    )
  }
}

const microphone = <><rect x="9" y="3" width="6" height="11" rx="3" /><path d="M5.500 11.500a6.500 6.500 0 0 0 13 0M12 18v3" /></>
const camera = <><rect x="3" y="6.500" width="12" height="11" rx="2.500" /><path d="m15 11 5.200-3.200a.5.500 0 0 1 .8.4v7.600a.5.500 0 0 1-.8.4L15 13" /></>
const slash = <path d="M4 4l16 16" />

export const MicIcon = icon(microphone)
export const MicOffIcon = icon(<>{microphone}{slash}</>)
export const CameraIcon = icon(camera)
export const CameraOffIcon = icon(<>{camera}{slash}</>)
export const ScreenIcon = icon(<><rect x="3" y="4.500" width="18" height="12" rx="2.500" /><path d="M12 13.500v-6m-2.500 2.500L12 7.500l2.500 2.500M8.500 20h7" /></>)
export const ChatIcon = icon(<path d="M4 6.500A2.500 2.500 0 0 1 6.500 4h11A2.500 2.500 0 0 1 20 6.500v7a2.500 2.500 0 0 1-2.500 2.500H10l-4.300 3.600a.4.400 0 0 1-.7-.3V16A2.500 2.500 0 0 1 4 13.500z" />)
export const InviteIcon = icon(<><circle cx="10" cy="8" r="3.500" /><path d="M3.500 19.500a6.500 6.500 0 0 1 11-4.700M18.500 14.500v6m-3-3h6" /></>)
export const InfoIcon = icon(<><circle cx="12" cy="12" r="8.500" /><path d="M12 11v5M12 8v.1" /></>)
export const LeaveIcon = icon(<path d="M3.600 14.900c-.9-1.100-.8-2.700.3-3.600 4.700-3.900 11.500-3.900 16.200 0 1.100.9 1.200 2.500.3 3.600l-.6.700a1 1 0 0 1-1.200.2l-2.500-1.300a1 1 0 0 1-.5-.9v-1.500a11 11 0 0 0-7.200 0v1.500a1 1 0 0 1-.5.9l-2.500 1.300a1 1 0 0 1-1.200-.2z" fill="currentColor" stroke="none" />)
export const CloseIcon = icon(<path d="M6 6l12 12M18 6 6 18" />)
export const SendIcon = icon(<path d="M12 19V5m-6 6 6-6 6 6" />)
export const CheckIcon = icon(<path d="m5 12.500 4.500 4.500L19 7.500" />)
export const ChevronIcon = icon(<path d="m7 10 5 5 5-5" />)
export const GlobeIcon = icon(<><circle cx="12" cy="12" r="8.500" /><path d="M12 3.500c-4.500 5-4.500 12 0 17M12 3.500c4.500 5 4.500 12 0 17M3.800 12h16.400" /></>)
export const AlertIcon = icon(<><path d="M12 8.500v4.500M12 16.200v.1" /><circle cx="12" cy="12" r="8.500" /></>)
export const SpeakerIcon = icon(<path d="M4 9.500v5h3.500L12 18.500v-13L7.500 9.500zM15.500 9a4 4 0 0 1 0 6M18 6.500a8 8 0 0 1 0 11" />)

/** The mark: two meridians and the sun at noon. */
export function Logo({ size = 32 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" className="logo">
      <rect width="32" height="32" rx="9" className="logo-tile" />
      <g fill="none" stroke="#fff" strokeWidth="2" strokeLinecap="round">
        <circle cx="16" cy="16" r="9" />
        <path d="M16 7c-5 5.500-5 12.500 0 18M16 7c5 5.500 5 12.500 0 18" />
      </g>
      <circle cx="16" cy="16" r="2.600" fill="#ffd166" />
    </svg>
  )
}
