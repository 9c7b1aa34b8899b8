// Dead letters as a file: NDJSON, one a line, as the API has them.

import type { DeadLettersAnswer, Tally } from '../client'

/** More are for the database's own tools. */
export const EXPORT_MAX = 10_000
const PAGE = 100
/** The most that the API answers: every event fits. */
const PAYLOAD_BYTES_MAX = 65_536

/** All of a group, or all that there are, up to `EXPORT_MAX`. */
export async function exported(
  tally: Pick<Tally, 'deadLetters'>,
  group: { reason: string; node: string } | undefined,
  onProgress: (count: number) => void,
): Promise<string> {
  const lines: string[] = []
  let cursor: string | undefined
  do {
    const page: DeadLettersAnswer = await tally.deadLetters({ limit: PAGE, cursor, payloadBytesMax: PAYLOAD_BYTES_MAX, ...group })
    lines.push(...page.items.map((item) => JSON.stringify(item)))
    onProgress(lines.length)
    cursor = page.next
  } while (cursor !== undefined && lines.length < EXPORT_MAX)
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`
}
