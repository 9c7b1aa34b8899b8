// The terms that the console can look up.

export type Kind = 'subject' | 'actor' | 'receipt'

export interface Wanted {
  kind: Kind
  id: string
}

/** Kind and id of the address `#look-up=actor=u42`; without a kind, `#look-up=article:7`, the kind follows from the id. */
export function ofHash(hash: string): { kind: Kind | 'any'; id: string } | undefined {
  const [, kind, encoded] = /^#look-up=(?:(subject|actor|receipt)=)?(.+)$/.exec(hash) ?? []
  if (!encoded) return undefined
  try {
    return { kind: (kind as Kind | undefined) ?? 'any', id: decodeURIComponent(encoded) }
  } catch {
    return undefined
  }
}

export const hashOf = ({ kind, id }: Wanted): string => `#look-up=${kind}=${encodeURIComponent(id)}`

/** What an id may stand for, the likeliest first. */
export function guesses(id: string): Kind[] {
  // Anonymous actors have a colon too, and such a kind of subjects is hardly used.
  if (id.startsWith('anon:')) return ['actor', 'subject']
  if (/^[a-z][a-z0-9_-]{0,31}:/.test(id)) return ['subject', 'actor']
  // Receipts are base64url of 30 bytes and more.
  return /^[\w-]{40,}$/.test(id) ? ['receipt', 'actor'] : ['actor']
}
