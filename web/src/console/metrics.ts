// Prometheus text, as far as the console needs it: counters and gauges with their labels.

export interface Sample {
  labels: Record<string, string>
  value: number
}

export type Metrics = Map<string, Sample[]>

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g

export function parseMetrics(text: string): Metrics {
  const metrics: Metrics = new Map()
  for (const line of text.split('\n')) {
    if (line.startsWith('#')) continue
    const [, name, labels, number] = LINE.exec(line) ?? []
    const value = Number(number)
    if (!name || Number.isNaN(value)) continue
    const sample: Sample = { labels: {}, value }
    for (const [, label, text] of (labels ?? '').matchAll(LABEL)) {
      if (label) sample.labels[label] = (text ?? '').replace(/\\(.)/g, (_, char: string) => (char === 'n' ? '\n' : char))
    }
    const known = metrics.get(name)
    if (known) known.push(sample)
    else metrics.set(name, [sample])
  }
  return metrics
}

/** The sum of the samples that have these labels; undefined where there is none. */
export function sum(metrics: Metrics, name: string, labels: Record<string, string> = {}): number | undefined {
  const wanted = Object.entries(labels)
  const found = (metrics.get(name) ?? []).filter((sample) => wanted.every(([label, value]) => sample.labels[label] === value))
  return found.length === 0 ? undefined : found.reduce((total, sample) => total + sample.value, 0)
}
