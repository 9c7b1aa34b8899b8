// How numbers, times and lengths of time are written.

const whole = new Intl.NumberFormat('en')
const compactForm = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })

const decimal = new Intl.NumberFormat('en', { maximumFractionDigits: 9 })

export const exact = (value: number) => whole.format(value)

/** The value of a metric: a number with all of its decimals, a text as it is, and a dash where there is none. */
export const written = (value: number | string | null | undefined) =>
  typeof value === 'number' ? decimal.format(value) : (value ?? '—')

/** The value of a metric where only numbers are of use. */
export const numeric = (value: number | string | null | undefined) => (typeof value === 'number' ? value : undefined)

/** In at most five places: for readers, never for operators. */
export const compact = (value: number) => (Math.abs(value) < 10_000 ? whole.format(value) : compactForm.format(value))

/** Per second, or per minute. */
export function rate(value: number): string {
  if (value >= 10) return whole.format(Math.round(value))
  if (value === 0) return '0'
  return value < 0.1 ? '<0.1' : value.toFixed(1)
}

export function seconds(value: number): string {
  if (value >= 86_400) return `${(value / 86_400).toFixed(1)} d`
  if (value >= 3_600) return `${(value / 3_600).toFixed(1)} h`
  if (value >= 100) return `${Math.round(value / 60)} min`
  return value === 0 ? '0 s' : `${value.toFixed(value < 10 ? 2 : 0)} s`
}

/** Numbers of a column, all with as many decimals as the longest needs: their points stand below each other. */
export function aligned(values: number[]): (value: number) => string {
  const decimals = Math.max(0, ...values.map((value) => /\.(\d+)$/.exec(String(value))?.[1]?.length ?? 0))
  const form = new Intl.NumberFormat('en', { minimumFractionDigits: decimals, maximumFractionDigits: decimals })
  return (value) => form.format(value)
}

// Logs and the API have UTC, and so do operators of several places.
function parts(time: string | number): { date: string; clock: string } | undefined {
  const date = new Date(time)
  if (Number.isNaN(date.getTime())) return undefined
  const text = date.toISOString()
  const cut = text.indexOf('T')
  return { date: text.slice(0, cut), clock: text.slice(cut + 1, cut + 9) }
}

/** The time of day in UTC, with the zone. */
export function clock(time: string | number): string {
  const found = parts(time)
  return found ? `${found.clock} UTC` : String(time)
}

/** Date and time of day in UTC, with the zone. */
export function dateAndClock(time: string | number): string {
  const found = parts(time)
  return found ? `${found.date} ${found.clock} UTC` : String(time)
}

/** Hours and minutes in UTC, for axes that name the zone. */
export const minute = (time: string | number) => parts(time)?.clock.slice(0, 5) ?? ''

/** The day in UTC, for axes that name the zone. */
export const day = (time: string | number) => parts(time)?.date ?? ''
