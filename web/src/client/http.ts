// Requests and their errors.

import type { RejectedEvent } from './answers'

/** A problem document of the server (RFC 9457). */
export interface Problem {
  type: string
  title: string
  status: number
  detail: string
  request_id: string
  rejected?: RejectedEvent[]
}

/** A response other than a success, or no response. */
export class TallyError extends Error {
  /** 0 without a response. */
  readonly status: number
  readonly problem: Problem | undefined
  /** The wait that the server requires. */
  readonly retryAfterMs: number | undefined

  constructor(status: number, message: string, problem?: Problem, retryAfterMs?: number) {
    super(message)
    this.name = 'TallyError'
    this.status = status
    this.problem = problem
    this.retryAfterMs = retryAfterMs
  }

  /** Whether a retry of the same request may succeed. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500
  }

  /** Whether the credential is missing or insufficient. */
  get isRefusal(): boolean {
    return this.status === 401 || this.status === 403
  }

  /** Whether the server does not have this call. */
  get isUnknownCall(): boolean {
    return this.status === 404 || this.status === 405 || this.status === 501
  }
}

/** Returns an API key or a token; called for every request, so that a renewed one is used. */
export type Credential = () => string | null | undefined

/** Called on responses that require a credential, or another one. */
export type RefusedListener = (error: TallyError, call: { method: string; path: string }) => void

export interface Call {
  method?: 'GET' | 'POST' | 'PUT' | 'DELETE'
  body?: unknown
  signal?: AbortSignal
  /** The request outlives the page. Bodies up to 64 KiB in all. */
  keepalive?: boolean
  /** The longest wait for a response. */
  timeoutMs?: number
}

/** A smaller difference of clocks may be the latency of the response. */
const SKEW_MS_MIN = 30_000
const TIMEOUT_MS = 15_000

export class Http {
  /** How far the server's clock is ahead of this one; 0 if the difference is small. */
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
        // Counters in the browser's cache may be old: they are revalidated as the server requires.
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
    // A response to a credential that was replaced meanwhile does not concern the new one.
    if (error.isRefusal && credential === this.credential()) this.onRefused?.(error, { method: call.method ?? 'GET', path })
    throw error
  }

  /** The server's time: it would reject a click that lies in its future. */
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
