// A stream of changes; polling while the server has no stream.

import { Backoff } from './backoff'
import type { Visibility } from './visible'

/** How changes arrive. */
export type LiveState = 'connecting' | 'live' | 'polling' | 'paused' | 'failing'

export interface LiveSource<T> {
  /** The address of the stream. */
  url: () => string
  /** The name of its events. */
  event: string
  /** Polls once, in place of the stream. */
  poll: () => Promise<T[]>
}

export interface LiveOptions<T> {
  onNews: (news: T) => void
  onState?: (state: LiveState) => void
}

export interface LiveEnvironment {
  page: Visibility
  /** Undefined if the browser has none. */
  EventSource: typeof EventSource | undefined
  pollMs: number
  /** After how long the stream is tried again while polling. */
  streamAgainMs: number
}

/**
 * While a page is hidden it holds no stream: browsers open six connections to a server for all their tabs together.
 * Returns a function that ends it.
 */
export function follow<T>(source: LiveSource<T>, options: LiveOptions<T>, environment: LiveEnvironment): () => void {
  const { page } = environment
  const backoff = new Backoff({ firstMs: environment.pollMs, maxMs: 30_000 })
  let stream: EventSource | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  let streamAgainAt = 0
  let turn = 0
  let state: LiveState | undefined

  const tell = (next: LiveState) => {
    if (state === next) return
    state = next
    options.onState?.(next)
  }
  const halt = () => {
    turn += 1
    clearTimeout(timer)
    stream?.close()
    stream = undefined
  }
  const open = (Stream: typeof EventSource) => {
    if (state !== 'polling') tell('connecting')
    const opened = new Stream(source.url())
    stream = opened
    opened.addEventListener(source.event, (event) => {
      try {
        const news = JSON.parse((event as MessageEvent<string>).data) as T
        tell('live')
        options.onNews(news)
      } catch {
        // An event in an unknown form.
      }
    })
    opened.onopen = () => tell('live')
    opened.onerror = () => {
      // A stream that broke comes back by itself; one that was refused is closed. Either way nothing is missed: the
      // server begins with what is.
      if (opened.readyState !== Stream.CLOSED) return tell('connecting')
      stream = undefined
      streamAgainAt = Date.now() + environment.streamAgainMs
      void ask(turn)
    }
  }
  const ask = async (mine: number) => {
    try {
      const news = await source.poll()
      if (mine !== turn) return
      backoff.reset()
      tell('polling')
      for (const one of news) options.onNews(one)
      timer = setTimeout(next, environment.pollMs)
    } catch {
      if (mine !== turn) return
      tell('failing')
      timer = setTimeout(next, backoff.next())
    }
  }
  const next = () => {
    if (environment.EventSource && Date.now() >= streamAgainAt) open(environment.EventSource)
    else void ask(turn)
  }
  const change = () => {
    halt()
    if (page.visibilityState === 'visible') next()
    else tell('paused')
  }
  page.addEventListener('visibilitychange', change)
  change()
  return () => {
    page.removeEventListener('visibilitychange', change)
    halt()
  }
}
