// Where the nodes of the graph stand: columns in the order records flow, and within a column near what they read.

import type { GraphNode, TopologyAnswer } from '../client'

export interface Placed {
  node: GraphNode
  x: number
  y: number
  width: number
  height: number
}

export interface Drawing {
  width: number
  height: number
  nodes: Placed[]
  edges: { from: string; to: string; value: string; path: string }[]
  groups: { name: string; x: number; y: number; width: number; height: number }[]
}

const BOX = { width: 122, height: 46 }
const HOP = { width: 40, height: 34 }
const GAP = { x: 28, y: 16 }
const MARGIN = { x: 14, top: 48, bottom: 16 }

export function draw(graph: TopologyAnswer): Drawing {
  const columns = columnsOf(graph)
  order(columns, graph)
  const heights = columns.map((column) => column.reduce((sum, node) => sum + sizeOf(node).height + GAP.y, -GAP.y))
  const inner = Math.max(0, ...heights)
  const placed = new Map<string, Placed>()
  let x = MARGIN.x
  columns.forEach((column, index) => {
    const width = Math.max(...column.map((node) => sizeOf(node).width))
    let y = MARGIN.top + (inner - (heights[index] ?? 0)) / 2
    for (const node of column) {
      const size = sizeOf(node)
      placed.set(node.id, { node, x: x + (width - size.width) / 2, y, ...size })
      y += size.height + GAP.y
    }
    x += width + GAP.x
  })
  return {
    width: x - GAP.x + MARGIN.x,
    height: inner + MARGIN.top + MARGIN.bottom,
    nodes: [...placed.values()],
    edges: graph.edges.flatMap((edge) => {
      const [from, to] = [placed.get(edge.from), placed.get(edge.to)]
      return from && to ? [{ ...edge, path: curve(from, to) }] : []
    }),
    groups: graph.subtopologies.flatMap(({ name }) => {
      const members = [...placed.values()].filter((one) => one.node.subtopology === name)
      return members.length === 0 ? [] : [{ name, ...around(members) }]
    }),
  }
}

function sizeOf(node: GraphNode) {
  return node.kind === 'repartition' ? HOP : BOX
}

/** The column of a node is the longest way to it; what comes out stands together behind everything, then the sinks. */
function columnsOf(graph: TopologyAnswer): GraphNode[][] {
  const reads = new Map<string, string[]>()
  for (const { from, to } of graph.edges) reads.set(to, [...(reads.get(to) ?? []), from])
  const written = new Set(graph.edges.filter((edge) => edge.to.startsWith('topic:')).map((edge) => edge.to))
  const isRead = new Set(graph.subtopologies.map(({ source }) => `topic:${source}`))
  const depths = new Map<string, number>()
  const depthOf = (id: string, seen: Set<string>): number => {
    const known = depths.get(id)
    if (known !== undefined) return known
    // Circles do not occur; if one did, it would not hang the page.
    if (seen.has(id)) return 0
    const next = new Set(seen).add(id)
    const depth = Math.max(-1, ...(reads.get(id) ?? []).map((from) => depthOf(from, next))) + 1
    depths.set(id, depth)
    return depth
  }
  const isOutput = (node: GraphNode) => node.kind === 'topic' && (written.has(node.id) || !isRead.has(node.id))
  const inside = graph.nodes.filter((node) => node.kind !== 'sink' && !isOutput(node))
  const last = Math.max(0, ...inside.map((node) => depthOf(node.id, new Set())))
  const columns: GraphNode[][] = []
  for (const node of graph.nodes) {
    const column = node.kind === 'sink' ? last + 2 : isOutput(node) ? last + 1 : depthOf(node.id, new Set())
    const known = columns[column]
    if (known) known.push(node)
    else columns[column] = [node]
  }
  return columns.filter((column) => column !== undefined)
}

/** Nodes near the middle of what they read and of what reads them: fewer lines cross. */
function order(columns: GraphNode[][], graph: TopologyAnswer) {
  const place = new Map<string, number>()
  const note = (column: GraphNode[]) => column.forEach((node, index) => place.set(node.id, (index + 0.5) / column.length))
  columns.forEach(note)
  const middle = (node: GraphNode) => {
    const others = graph.edges.flatMap(({ from, to }) => (to === node.id ? [from] : from === node.id ? [to] : []))
    const places = others.map((id) => place.get(id) ?? 0.5)
    return places.length === 0 ? 1 : places.reduce((sum, one) => sum + one, 0) / places.length
  }
  for (let round = 0; round < 4; round++) {
    for (const column of columns) {
      const middles = new Map(column.map((node) => [node.id, middle(node)]))
      column.sort((a, b) => (middles.get(a.id) ?? 0) - (middles.get(b.id) ?? 0) || a.name.localeCompare(b.name))
      note(column)
    }
  }
}

function curve(from: Placed, to: Placed): string {
  const [x1, y1] = [from.x + from.width, from.y + from.height / 2]
  const [x2, y2] = [to.x, to.y + to.height / 2]
  const bend = Math.max(18, Math.min(90, (x2 - x1) / 2))
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`
}

function around(members: Placed[]) {
  const [x, y] = [Math.min(...members.map((one) => one.x)) - 9, Math.min(...members.map((one) => one.y)) - 9]
  const right = Math.max(...members.map((one) => one.x + one.width)) + 9
  const bottom = Math.max(...members.map((one) => one.y + one.height)) + 9
  return { x, y, width: right - x, height: bottom - y }
}
