import { expect, test } from 'vitest'
import type { TopologyAnswer } from '../client'
import { draw } from './layout'

const graph: TopologyAnswer = {
  application: 'tally',
  subtopologies: [
    { name: 'in', source: 'in', key: 'actor_id', partitions: 2, stores: [] },
    { name: 'by-subject', source: 'hop', key: 'subject_id', partitions: 2, stores: [] },
  ],
  nodes: [
    { id: 'topic:in', name: 'in', kind: 'topic', type: 'event', partitions: 2 },
    { id: 'topic:out', name: 'out', kind: 'topic', type: 'counters', partitions: 2 },
    { id: 'topic:dead', name: 'dead', kind: 'topic', type: 'raw', partitions: 1 },
    { id: 'processor:a', name: 'a', kind: 'processor', type: 'decode', subtopology: 'in' },
    { id: 'processor:b', name: 'b', kind: 'processor', type: 'count', subtopology: 'in' },
    { id: 'topic:hop', name: 'hop', kind: 'repartition', type: 'subject_id', partitions: 2 },
    { id: 'processor:c', name: 'c', kind: 'processor', type: 'total', subtopology: 'by-subject' },
    { id: 'sink:db', name: 'db', kind: 'sink', type: 'database' },
  ],
  edges: [
    ['topic:in', 'processor:a'],
    ['processor:a', 'processor:b'],
    ['processor:b', 'topic:hop'],
    ['topic:hop', 'processor:c'],
    ['processor:c', 'topic:out'],
    ['topic:out', 'sink:db'],
    ['topic:dead', 'sink:db'],
    ['processor:a', 'topic:out'],
  ].map(([from, to]) => ({ from: from as string, to: to as string, value: 'x' })),
}

test('records flow from left to right, and no two nodes share a place', () => {
  const drawing = draw(graph)
  const at = (id: string) => drawing.nodes.find((one) => one.node.id === id)!
  expect(drawing.nodes.length).toBe(graph.nodes.length)
  expect(drawing.edges.length).toBe(graph.edges.length)
  for (const edge of graph.edges) expect(at(edge.from).x + at(edge.from).width).toBeLessThan(at(edge.to).x)
  for (const one of drawing.nodes) {
    for (const other of drawing.nodes) {
      if (one === other) continue
      const apart =
        one.x + one.width <= other.x || other.x + other.width <= one.x || one.y + one.height <= other.y || other.y + other.height <= one.y
      expect(apart, `${one.node.id} ${other.node.id}`).toBe(true)
    }
    expect(one.x + one.width).toBeLessThanOrEqual(drawing.width)
    expect(one.y + one.height).toBeLessThanOrEqual(drawing.height)
  }
  // An edge that passes a column passes between its nodes.
  const long = drawing.edges.find((edge) => edge.from === 'processor:a' && edge.to === 'topic:out')
  expect(long?.path.match(/C/g)?.length).toBeGreaterThan(1)
  for (const [, x, y] of (long?.path ?? '').matchAll(/L([\d.]+) ([\d.]+)/g)) {
    const inside = drawing.nodes.filter((one) => Number(x) > one.x && Number(x) < one.x + one.width && Number(y) >= one.y && Number(y) <= one.y + one.height)
    expect(inside.map((one) => one.node.id)).toEqual([])
  }
  // A topic that no edge writes is placed in the column of the outputs.
  expect(at('topic:dead').x).toBe(at('topic:out').x)
  expect(drawing.groups.map((group) => group.name)).toEqual(['in', 'by-subject'])
})
