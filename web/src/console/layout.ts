// Where the nodes of the graph stand: columns in the order records flow, and within a column near what they read.

import type { GraphNode, TopologyAnswer } from '../client'

export interface Placed {
  node: GraphNode
  x: number
  y: number
  width: number
  height: number
}

/** An edge, and where its label stands. */
export interface Line {
  from: string
  to: string
  value: string
  path: string
  middle: { x: number; y: number }
}

export interface Drawing {
  width: number
  height: number
  nodes: Placed[]
  edges: Line[]
  groups: { name: string; x: number; y: number; width: number; height: number }[]
}

const BOX = { width: 110, height: 48 }
const HOP = { width: 40, height: 34 }
/** What passes a column on its way to a later one. */
const LANE = { width: 0, height: 6 }
const GAP = { x: 20, y: 22 }
const MARGIN = { x: 10, top: 54, bottom: 16 }

/** A place in a column: a node, or where edges pass that end at one. */
interface Slot {
  id: string
  node?: GraphNode
}

interface Spot {
  x: number
  y: number
  width: number
  height: number
}

/** A part of an edge, from one column to the next. */
type Segment = [from: string, to: string]

export function draw(graph: TopologyAnswer): Drawing {
  const columns: Slot[][] = columnsOf(graph).map((column) => column.map((node) => ({ id: node.id, node })))
  const ways = lead(columns, graph)
  order(columns, ways.flat())
  const heights = columns.map((column) => column.reduce((sum, slot) => sum + sizeOf(slot).height + GAP.y, -GAP.y))
  const inner = Math.max(0, ...heights)
  const spots = new Map<string, Spot>()
  const nodes: Placed[] = []
  let x = MARGIN.x
  columns.forEach((column, index) => {
    const width = Math.max(...column.map((slot) => sizeOf(slot).width))
    let y = MARGIN.top + (inner - (heights[index] ?? 0)) / 2
    for (const slot of column) {
      const size = sizeOf(slot)
      // A lane runs straight through the width of its column.
      const spot = slot.node ? { x: x + (width - size.width) / 2, y, ...size } : { x, y, width, height: size.height }
      spots.set(slot.id, spot)
      if (slot.node) nodes.push({ node: slot.node, ...spot })
      y += size.height + GAP.y
    }
    x += width + GAP.x
  })
  return {
    width: x - GAP.x + MARGIN.x,
    height: inner + MARGIN.top + MARGIN.bottom,
    nodes,
    edges: graph.edges.flatMap((edge, index) => {
      const way = ways[index] ?? []
      return way.length === 0 ? [] : [{ ...edge, ...drawn(way, spots) }]
    }),
    groups: graph.subtopologies.flatMap(({ name }) => {
      const members = nodes.filter((one) => one.node.subtopology === name)
      return members.length === 0 ? [] : [{ name, ...around(members) }]
    }),
  }
}

function sizeOf({ node }: Slot) {
  if (!node) return LANE
  return node.kind === 'repartition' ? HOP : BOX
}

/** Leads edges through the columns that they pass, in lanes: those that end at one node share theirs. The way of each. */
function lead(columns: Slot[][], graph: TopologyAnswer): Segment[][] {
  const columnOf = new Map(columns.flatMap((column, index) => column.map((slot) => [slot.id, index] as const)))
  return graph.edges.map(({ from, to }) => {
    const [first, last] = [columnOf.get(from), columnOf.get(to)]
    if (first === undefined || last === undefined) return []
    const stops = [from]
    for (let index = first + 1; index < last; index++) {
      const id = `lane ${index} ${to}`
      if (!columns[index]?.some((slot) => slot.id === id)) columns[index]?.push({ id })
      stops.push(id)
    }
    stops.push(to)
    return stops.slice(1).map((stop, index): Segment => [stops[index] ?? from, stop])
  })
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
function order(columns: Slot[][], segments: Segment[]) {
  const place = new Map<string, number>()
  const note = (column: Slot[]) => column.forEach((slot, index) => place.set(slot.id, (index + 0.5) / column.length))
  columns.forEach(note)
  const middle = (id: string) => {
    const others = segments.flatMap(([from, to]) => (to === id ? [from] : from === id ? [to] : []))
    const places = others.map((id) => place.get(id) ?? 0.5)
    return places.length === 0 ? 1 : places.reduce((sum, one) => sum + one, 0) / places.length
  }
  for (let round = 0; round < 4; round++) {
    for (const column of columns) {
      const middles = new Map(column.map(({ id }) => [id, middle(id)]))
      column.sort((a, b) => (middles.get(a.id) ?? 0) - (middles.get(b.id) ?? 0) || (a.node?.name ?? a.id).localeCompare(b.node?.name ?? b.id))
      note(column)
    }
  }
}

/** A curve from column to column; its label stands in the middle of the last but one lane, or between its ends. */
function drawn(way: Segment[], spots: Map<string, Spot>): Pick<Line, 'path' | 'middle'> {
  let path = ''
  let middle = { x: 0, y: 0 }
  way.forEach(([fromId, toId], index) => {
    const [from, to] = [spots.get(fromId), spots.get(toId)]
    if (!from || !to) return
    const [x1, y1] = [from.x + from.width, from.y + from.height / 2]
    const [x2, y2] = [to.x, to.y + to.height / 2]
    const bend = Math.max(14, (x2 - x1) / 2)
    path += `${index === 0 ? 'M' : 'L'}${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`
    if (way.length === 1) middle = { x: (x1 + x2) / 2, y: (y1 + y2) / 2 }
    else if (index === Math.floor((way.length - 1) / 2)) middle = { x: to.x + to.width / 2, y: y2 }
  })
  return { path, middle }
}

function around(members: Placed[]) {
  const [x, y] = [Math.min(...members.map((one) => one.x)) - 9, Math.min(...members.map((one) => one.y)) - 9]
  const right = Math.max(...members.map((one) => one.x + one.width)) + 9
  const bottom = Math.max(...members.map((one) => one.y + one.height)) + 9
  return { x, y, width: right - x, height: bottom - y }
}
