// Time during which a page can be seen.

/** The used part of `document`. */
export interface Visibility {
  readonly visibilityState: string
  addEventListener(type: 'visibilitychange', listener: () => void): void
  removeEventListener(type: 'visibilitychange', listener: () => void): void
}

/**
 * Runs `call` once the page has been visible for this long, pauses excluded, with the visible milliseconds.
 * A page that is never visible never runs it. Returns a function that ends it.
 */
export function afterVisible(
  page: Visibility,
  durationMs: number,
  call: (visibleMs: number) => void,
  now: () => number = () => performance.now(),
): () => void {
  let seenMs = 0
  let since: number | undefined
  let timer: ReturnType<typeof setTimeout> | undefined

  const pause = () => {
    clearTimeout(timer)
    if (since !== undefined) seenMs += now() - since
    since = undefined
  }
  const stop = () => {
    pause()
    page.removeEventListener('visibilitychange', change)
  }
  const change = () => {
    pause()
    if (page.visibilityState !== 'visible') return
    since = now()
    timer = setTimeout(
      () => {
        pause()
        // A timer may come early by the fraction of a millisecond.
        if (seenMs < durationMs) return change()
        stop()
        call(Math.floor(seenMs))
      },
      Math.max(0, Math.ceil(durationMs - seenMs)),
    )
  }
  page.addEventListener('visibilitychange', change)
  change()
  return stop
}
