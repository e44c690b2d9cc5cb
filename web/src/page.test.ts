import { describe, expect, it } from 'vitest'
import { EdgeError } from './edges'
import { cleanRoom, hue, initials, newIdentity, randomRoom } from './names'
import { inviteLink, parseParams } from './params'
import { loadPrefs, savePrefs } from './prefs'
import { deviceProblem, endProblem, joinProblem, worthAnotherEdge } from './problems'

describe('params', () => {
  it('reads them', () => {
    expect(parseParams('?room=r&name=Ada%20L&region=eu-west&pc=dual&autojoin=1&video=360&client_ip=1.2.3.4', '#token=abc')).toEqual({
      room: 'r', name: 'Ada L', region: 'eu-west', clientIp: '1.2.3.4', pass: 'abc', autojoin: true, singlePeerConnection: false, video: 360, codec: 'vp8',
    })
  })
  it('has defaults, and bounds what it is given', () => {
    expect(parseParams('')).toEqual({ room: undefined, name: undefined, region: undefined, clientIp: undefined, pass: undefined, autojoin: false, singlePeerConnection: undefined, video: 720, codec: 'vp8' })
    expect(parseParams('?codec=vp9').codec).toBe('vp9')
    expect(parseParams('?codec=theora').codec).toBe('vp8')
    expect(parseParams(`?room=${'x'.repeat(10_000)}`).room).toHaveLength(64)
  })
  it('invites into the room alone', () => {
    expect(inviteLink('http://h:1/base/?autojoin=1&name=Ada&room=old#x', 'a room')).toBe('http://h:1/base/?room=a+room')
  })
})

describe('names', () => {
  it('makes rooms that can be said aloud', () => {
    expect(randomRoom()).toMatch(/^[a-z]+-[a-z]+-\d{3}$/)
    expect(randomRoom(() => 0.9999999)).toMatch(/^[a-z]+-[a-z]+-999$/)
  })
  it('cleans what people type', () => expect(cleanRoom('  Team  Sync ')).toBe('team-sync'))
  it('gives each page load its own identity', () => {
    expect(newIdentity('Zoë Ångström')).toMatch(/^[a-z0-9-]+-[0-9a-f]{8}$/)
    expect(newIdentity('李')).toMatch(/^guest-/)
    expect(newIdentity('Ada')).not.toBe(newIdentity('Ada'))
  })
  it('abbreviates', () => {
    expect(initials('Ada King Lovelace')).toBe('AL')
    expect(initials(' ')).toBe('?')
    expect(initials('🦊 fox')).toBe('🦊F')
    expect(hue('ada')).toBe(hue('ada'))
  })
})

describe('prefs', () => {
  it('keeps them', () => {
    let saved = ''
    savePrefs({ name: 'Ada', camera: 'c', cameraOn: false, microphoneOn: true }, { setItem: (_, v) => void (saved = v) })
    expect(loadPrefs({ getItem: () => saved })).toEqual({ name: 'Ada', camera: 'c', cameraOn: false, microphoneOn: true })
  })
  it.each(['null', '7', '{', '{"name":7,"cameraOn":"yes"}'])('takes %s for an empty storage', (text) => {
    expect(loadPrefs({ getItem: () => text })).toEqual({ name: '', cameraOn: true, microphoneOn: true })
  })
})

describe('problems', () => {
  it.each(['NotAllowedError', 'NotFoundError', 'NotReadableError', 'OddError'])('says the way out of %s', (name) => {
    const p = deviceProblem('camera', Object.assign(new Error('x'), { name }))
    expect(p.title).toMatch(/camera/i)
    expect(p.text.length).toBeGreaterThan(20)
  })
  it('tries another edge unless the token was refused', () => {
    expect(worthAnotherEdge({ name: 'ConnectionError', reason: 0, status: 401 })).toBe(false)
    expect(worthAnotherEdge({ name: 'ConnectionError', reason: 1 })).toBe(true)
    expect(worthAnotherEdge(new TypeError('boom'))).toBe(true)
  })
  it('tells refusal, silence and a full mesh apart', () => {
    const titles = [new EdgeError('refused', 'no such room', 403), new EdgeError('unreachable', ''), new EdgeError('no-edge', ''), { name: 'ConnectionError', reason: 0 }, new Error('x')].map((e) => joinProblem(e).title)
    expect(new Set(titles).size).toBe(titles.length)
    expect(joinProblem(new EdgeError('refused', 'no such room')).text).toMatch(/^No such room\. /)
  })
  it('is silent about a call one left oneself', () => {
    expect(endProblem('CLIENT_INITIATED')).toBeUndefined()
    expect(endProblem('DUPLICATE_IDENTITY')?.title).toBe('You joined from somewhere else')
    expect(endProblem(undefined)).toBeDefined()
  })
})
