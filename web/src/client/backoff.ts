// How long to wait before the next attempt.

export interface BackoffOptions {
  /** The longest first wait. */
  firstMs: number
  /** The longest wait, unless the server requires a longer one. */
  maxMs: number
}

/** Doubles with every failure, with a random part, so that many clients do not retry at the same time. */
export class Backoff {
  private failures = 0
  private readonly options: BackoffOptions
  private readonly random: () => number

  constructor(options: BackoffOptions = { firstMs: 1_000, maxMs: 60_000 }, random: () => number = Math.random) {
    this.options = options
    this.random = random
  }

  /** The wait after a failure; at least as long as the server requires. */
  next(askedMs = 0): number {
    const ceiling = Math.min(this.options.maxMs, this.options.firstMs * 2 ** this.failures)
    this.failures = Math.min(this.failures + 1, 30)
    // Half of it is fixed, the other half random.
    return Math.max(askedMs, ceiling / 2 + (this.random() * ceiling) / 2)
  }

  /** After a success. */
  reset() {
    this.failures = 0
  }
}
