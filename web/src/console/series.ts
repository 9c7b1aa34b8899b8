// Series over time: what is drawn, and its axes.

import type { HistoryAnswer } from '../client'

/** A value at a time in milliseconds; undefined if unknown. */
export interface Point {
  at: number
  value: number | undefined
}

type Sample = HistoryAnswer['samples'][number]

const known = (value: number | null): number | undefined => value ?? undefined

/** One number of a history. Counts become rates per `perSeconds`. */
export function pointsOf(samples: Sample[], value: (sample: Sample) => number | null, perSeconds?: number): Point[] {
  return samples.map((sample, index) => {
    const at = Date.parse(sample.at)
    if (perSeconds === undefined) return { at, value: known(value(sample)) }
    const before = samples[index - 1]
    const counted = value(sample)
    const seconds = before ? (at - Date.parse(before.at)) / 1000 : 0
    return { at, value: counted === null || seconds <= 0 ? undefined : (counted / seconds) * perSeconds }
  })
}

/** Errors of a sample; null where neither number is known. */
export function errorsOf(sample: Sample): number | null {
  return sample.rejected === null && sample.store_errors === null ? null : (sample.rejected ?? 0) + (sample.store_errors ?? 0)
}

export interface Errors {
  rejected: number | undefined
  storeErrors: number | undefined
  /** Both of the last five minutes, per minute. */
  perMinute: number
  sinceMs: number
}

const LATELY_MS = 5 * 60_000

/** The errors of a history; undefined if no sample has them. */
export function errorsIn(samples: Sample[]): Errors | undefined {
  const [first, last] = [samples[0], samples.at(-1)]
  if (!first || !last || samples.every((sample) => errorsOf(sample) === null)) return undefined
  const total = (numbers: (number | null)[]) => (numbers.every((one) => one === null) ? undefined : numbers.reduce<number>((all, one) => all + (one ?? 0), 0))
  const lately = samples.filter((sample) => Date.parse(last.at) - Date.parse(sample.at) < LATELY_MS)
  const before = samples[samples.length - lately.length - 1] ?? first
  const minutes = (Date.parse(last.at) - Date.parse(before.at)) / 60_000
  return {
    rejected: total(samples.map((sample) => sample.rejected)),
    storeErrors: total(samples.map((sample) => sample.store_errors)),
    perMinute: minutes > 0 ? lately.reduce((all, sample) => all + (errorsOf(sample) ?? 0), 0) / minutes : 0,
    sinceMs: Date.parse(first.at),
  }
}

/** The end of an axis that begins at 0: 1, 2 or 5 times a power of ten, not below what is drawn. */
export function axisEnd(most: number): number {
  if (!(most > 0)) return 1
  const power = 10 ** Math.floor(Math.log10(most))
  const factor = [1, 2, 5, 10].find((one) => one * power >= most * (1 - 1e-9)) ?? 10
  return Number((factor * power).toPrecision(6))
}

/** Lines through the points, from 0 to 1 either way, y downwards; a gap where a value is not known. */
export function linesOf(points: Point[], end: number): string[] {
  const [first, last] = [points[0]?.at ?? 0, points.at(-1)?.at ?? 0]
  const span = Math.max(1, last - first)
  const lines: string[][] = [[]]
  for (const { at, value } of points) {
    if (value === undefined) lines.push([])
    else lines.at(-1)?.push(`${((at - first) / span).toFixed(4)},${(1 - value / end).toFixed(4)}`)
  }
  return lines.filter((line) => line.length > 0).map((line) => (line.length === 1 ? `${line[0]} ${line[0]}` : line.join(' ')))
}
