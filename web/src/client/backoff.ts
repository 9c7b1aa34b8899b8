// How long to wait before the next attempt.

export interface BackoffOptions {
  /** The longest first wait. */
  firstMs: number
  /** No wait is longer, but where the server asks for it. */
  maxMs: number
}

/** Doubles with every failure and is drawn at random below that, so that many clients do not come back together. */
export class Backoff {
  private failures = 0
  private readonly options: BackoffOptions
  private readonly random: () => number

  constructor(options: BackoffOptions = { firstMs: 1_000, maxMs: 60_000 }, random: () => number = Math.random) {
    this.options = options
    this.random = random
  }

  /** After a failure: how long to wait. At least as long as the server asks. */
  next(askedMs = 0): number {
    const ceiling = Math.min(this.options.maxMs, this.options.firstMs * 2 ** this.failures)
    this.failures = Math.min(this.failures + 1, 30)
    // Never nothing: half of it is certain, the other half is drawn.
    return Math.max(askedMs, ceiling / 2 + (this.random() * ceiling) / 2)
  }

  /** After a success. */
  reset() {
    this.failures = 0
  }
}
