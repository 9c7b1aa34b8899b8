// How numbers, times and lengths of time are written.

const whole = new Intl.NumberFormat('en')
const compactForm = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })

export const exact = (value: number) => whole.format(value)

/** In at most five places. */
export const compact = (value: number) => (Math.abs(value) < 10_000 ? whole.format(value) : compactForm.format(value))

/** Per second. */
export function rate(value: number): string {
  if (value >= 10_000) return compactForm.format(value)
  if (value >= 10) return whole.format(Math.round(value))
  return value === 0 ? '0' : value.toFixed(1)
}

export function seconds(value: number): string {
  if (value >= 86_400) return `${(value / 86_400).toFixed(1)} d`
  if (value >= 3_600) return `${(value / 3_600).toFixed(1)} h`
  if (value >= 100) return `${Math.round(value / 60)} min`
  return `${value.toFixed(value < 10 ? 2 : 0)} s`
}

export function clock(time: string): string {
  const date = new Date(time)
  return Number.isNaN(date.getTime()) ? time : date.toLocaleTimeString('en-GB')
}

export function dateAndClock(time: string): string {
  const date = new Date(time)
  if (Number.isNaN(date.getTime())) return time
  return `${date.toLocaleDateString('en-CA')} ${date.toLocaleTimeString('en-GB')}`
}
