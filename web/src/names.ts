const first = ['amber', 'brisk', 'calm', 'clear', 'coral', 'early', 'fair', 'gentle', 'golden', 'kind', 'lucky', 'merry', 'quiet', 'silver', 'sunny', 'warm']
const second = ['bay', 'brook', 'canal', 'cape', 'cove', 'delta', 'fjord', 'harbor', 'island', 'lagoon', 'mesa', 'reef', 'ridge', 'river', 'summit', 'valley']

/** A room name that is easy to say aloud: two words and three digits, about 250,000 of them. */
export function randomRoom(random: () => number = Math.random): string {
  const pick = (words: string[]) => words[Math.floor(random() * words.length)]
  return `${pick(first)}-${pick(second)}-${100 + Math.floor(random() * 900)}`
}

/** What may stand in a room's name: the same characters that survive being read out or retyped. */
export function cleanRoom(text: string): string {
  return text.trim().toLowerCase().replace(/\s+/g, '-').slice(0, 64)
}

/** Identity of this page load: a reload is a new participant, a rejoin from the ended screen is not. */
export function newIdentity(name: string): string {
  const slug = name.toLowerCase().normalize('NFKD').replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 24) || 'guest'
  const bytes = crypto.getRandomValues(new Uint8Array(4))
  return `${slug}-${[...bytes].map((b) => b.toString(16).padStart(2, '0')).join('')}`
}

export function initials(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean)
  const letters = [words[0], words.length > 1 ? words[words.length - 1] : undefined].map((w) => (w ? [...w][0] : ''))
  return letters.join('').toUpperCase() || '?'
}

/** A hue in degrees that stays the same for one identity. */
export function hue(identity: string): number {
  let h = 0
  for (const c of identity) h = (h * 31 + c.codePointAt(0)!) % 360
  return h
}
