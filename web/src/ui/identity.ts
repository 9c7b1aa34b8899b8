// The user of the page: an unverified name, and a key or token if the server requires one.

import { reactive } from 'vue'
import { randomId } from '../client'

const ACTOR = 'tally:actor'
const CREDENTIAL = 'tally:credential'

function kept(storage: () => Storage, key: string): string | undefined {
  try {
    return storage().getItem(key) ?? undefined
  } catch {
    return undefined
  }
}

function keep(storage: () => Storage, key: string, value: string) {
  try {
    if (value) storage().setItem(key, value)
    else storage().removeItem(key)
  } catch {
    // Then it lasts as long as the page.
  }
}

const local = () => localStorage
// A secret does not stay on the machine.
const session = () => sessionStorage

export const identity = reactive({
  actorId: kept(local, ACTOR) ?? `guest-${randomId().slice(0, 10)}`,
  credential: kept(session, CREDENTIAL) ?? '',
})
keep(local, ACTOR, identity.actorId)

/** The token's `sub` becomes the name: the server accepts events of no other actor with this token. */
export function identify(actorId: string, credential: string) {
  identity.credential = credential.trim()
  identity.actorId = actorOfToken(identity.credential) ?? (actorId.trim() || `guest-${randomId().slice(0, 10)}`)
  keep(local, ACTOR, identity.actorId)
  keep(session, CREDENTIAL, identity.credential)
}

/** The `sub` of a JWT; undefined for a key, and for what cannot be read. The server alone judges it. */
export function actorOfToken(credential: string): string | undefined {
  const claims = credential.split('.')[1]
  if (!claims) return undefined
  try {
    const bytes = Uint8Array.from(atob(claims.replaceAll('-', '+').replaceAll('_', '/')), (char) => char.charCodeAt(0))
    const { sub } = JSON.parse(new TextDecoder().decode(bytes)) as { sub?: unknown }
    return typeof sub === 'string' && sub ? sub : undefined
  } catch {
    return undefined
  }
}
