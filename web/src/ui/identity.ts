// Who looks at the page. A name that nobody proves: where the server asks for a key or token, that is given here too.

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

export function identify(actorId: string, credential: string) {
  identity.actorId = actorId.trim() || `guest-${randomId().slice(0, 10)}`
  identity.credential = credential.trim()
  keep(local, ACTOR, identity.actorId)
  keep(session, CREDENTIAL, identity.credential)
}
