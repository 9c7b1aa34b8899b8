import { expect, test } from 'vitest'
import { aligned, clock, dateAndClock, day, minute, numeric, rate, seconds, written } from './numbers'

test('times are in UTC and name the zone, wherever the reader is', () => {
  const time = '2026-11-21T23:59:07.999+00:00'
  expect(clock(time)).toBe('23:59:07 UTC')
  expect(dateAndClock(time)).toBe('2026-11-21 23:59:07 UTC')
  expect(dateAndClock('2026-11-22T01:59:07+02:00')).toBe('2026-11-21 23:59:07 UTC')
  expect([minute(time), day(time)]).toEqual(['23:59', '2026-11-21'])
  expect(dateAndClock('soon')).toBe('soon')
})

test('values of metrics keep their decimals, and no value is not zero', () => {
  expect([3_000, -3.5, 0.000000001, '<b>7</b>', '', null, undefined].map(written)).toEqual(['3,000', '-3.5', '0.000000001', '<b>7</b>', '', '—', '—'])
  expect([3, '3', null, undefined].map(numeric)).toEqual([3, undefined, undefined, undefined])
})

test('scores of a column have the same number of decimals', () => {
  const write = aligned([12.345, 1_200, 0.1])
  expect([12.345, 1_200, 0.1].map(write)).toEqual(['12.345', '1,200.000', '0.100'])
  expect([3, 1_000].map(aligned([3, 1_000]))).toEqual(['3', '1,000'])
  expect([].map(aligned([]))).toEqual([])
})

test('a small rate is none of zero, and a large one is exact', () => {
  expect([0, 0.01, 0.25, 9.96, 12.4, 12_345.6].map(rate)).toEqual(['0', '<0.1', '0.3', '10.0', '12', '12,346'])
  expect([0, 0.314, 12, 150, 4_000, 90_000].map(seconds)).toEqual(['0 s', '0.31 s', '12 s', '3 min', '1.1 h', '1.0 d'])
})
