// Requests, and what went wrong with them.

import type { RejectedEvent } from './answers'

/** What a server says of an error (RFC 9457). */
export interface Problem {
  type: string
  title: string
  status: number
  detail: string
  request_id: string
  rejected?: RejectedEvent[]
}

/** An answer that is none of success, or none at all. */
export class TallyError extends Error {
  /** 0 where there was no answer. */
  readonly status: number
  readonly problem: Problem | undefined
  /** How long the server asks to wait. */
  readonly retryAfterMs: number | undefined

  constructor(status: number, message: string, problem?: Problem, retryAfterMs?: number) {
    super(message)
    this.name = 'TallyError'
    this.status = status
    this.problem = problem
    this.retryAfterMs = retryAfterMs
  }

  /** Whether the same request may be answered well later. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500
  }

  /** Whether somebody else might do this: without a credential, or with one that may not. */
  get isRefusal(): boolean {
    return this.status === 401 || this.status === 403
  }

  /** Whether the server does not know such a call. */
  get isUnknownCall(): boolean {
    return this.status === 404 || this.status === 405 || this.status === 501
  }
}

/** An API key or a token; asked for at every request, so that one that was renewed is used. */
export type Credential = () => string | null | undefined

/** Told of answers that ask for another credential, or for one at all. */
export type RefusedListener = (error: TallyError, call: { method: string; path: string }) => void

export interface Call {
  method?: 'GET' | 'POST' | 'PUT' | 'DELETE'
  body?: unknown
  signal?: AbortSignal
  /** The request outlives the page. Bodies up to 64 KiB in all. */
  keepalive?: boolean
  /** No answer within this time is no answer. */
  timeoutMs?: number
}

/** Below this a difference of clocks may as well be the way of the answer. */
const SKEW_MS_MIN = 30_000
const TIMEOUT_MS = 15_000

export class Http {
  /** How far the server's clock is ahead of this one, as far as it matters. */
  skewMs = 0
  readonly base: string
  readonly credential: Credential
  private readonly fetch: typeof fetch
  private readonly onRefused: RefusedListener | undefined

  constructor(base: string, credential: Credential, fetcher: typeof fetch, onRefused?: RefusedListener) {
    this.base = base.replace(/\/$/, '')
    this.credential = credential
    this.fetch = fetcher
    this.onRefused = onRefused
  }

  async json<T>(path: string, call: Call = {}): Promise<T> {
    const answer = await this.answer(path, call)
    try {
      return (await answer.json()) as T
    } catch (error) {
      throw new TallyError(0, `The response was cut off: ${String(error)}`)
    }
  }

  private async answer(path: string, call: Call): Promise<Response> {
    const headers: Record<string, string> = {}
    const credential = this.credential()
    if (credential) headers['authorization'] = `Bearer ${credential}`
    if (call.body !== undefined) headers['content-type'] = 'application/json'
    const timeout = AbortSignal.timeout(call.timeoutMs ?? TIMEOUT_MS)
    const askedAt = Date.now()
    let answer: Response
    try {
      answer = await this.fetch(this.base + path, {
        method: call.method ?? 'GET',
        headers,
        body: call.body === undefined ? undefined : JSON.stringify(call.body),
        signal: call.signal ? AbortSignal.any([call.signal, timeout]) : timeout,
        keepalive: call.keepalive ?? false,
        // Counters that a browser kept would be old ones; the server says what may be kept, and it is asked again.
        cache: 'no-cache',
      })
    } catch (error) {
      throw new TallyError(0, `No response: ${error instanceof Error ? error.message : String(error)}`)
    }
    this.compareClocks(answer, askedAt)
    if (answer.ok) return answer
    const problem = (await answer.json().catch(() => undefined)) as Problem | undefined
    const message = problem?.detail ?? `${answer.status} ${answer.statusText}`
    const error = new TallyError(answer.status, message, problem, retryAfter(answer))
    // An answer to a credential that was replaced meanwhile says nothing of the new one.
    if (error.isRefusal && credential === this.credential()) this.onRefused?.(error, { method: call.method ?? 'GET', path })
    throw error
  }

  /** A click at a time that the server takes for the future would be refused: what is told is the server's time. */
  private compareClocks(answer: Response, askedAt: number) {
    const told = Date.parse(answer.headers.get('date') ?? '')
    if (Number.isNaN(told)) return
    const skewMs = told - (askedAt + Date.now()) / 2
    this.skewMs = Math.abs(skewMs) >= SKEW_MS_MIN ? Math.round(skewMs) : 0
  }
}

function retryAfter(answer: Response): number | undefined {
  const seconds = Number(answer.headers.get('retry-after') ?? Number.NaN)
  return Number.isFinite(seconds) ? seconds * 1000 : undefined
}

/** A path with its parameters; those that are undefined are left out, lists are repeated. */
export function path(base: string, parameters: Record<string, string | number | string[] | undefined>): string {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) {
    if (value === undefined) continue
    for (const one of Array.isArray(value) ? value : [value]) query.append(name, String(one))
  }
  const text = query.toString()
  return text ? `${base}?${text}` : base
}
