// A tally of its own for the tests: the real binary, on a free port, in a directory that is gone afterwards.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const REPOSITORY = resolve(import.meta.dirname, '../..')
const START_MS = 120_000

export interface Running {
  base: string
  /** A key for each of the requested scopes, by their text. */
  keys: Record<string, string>
  stop: () => Promise<void>
}

export interface RunningOptions {
  /** Events of sample traffic per second. */
  demo?: number
  flags?: string[]
  /** Require keys, with one key for each of these lists of scopes. */
  scopes?: string[]
}

export async function startTally({ demo = 0, flags = [], scopes = [] }: RunningOptions = {}): Promise<Running> {
  const binary = resolve(REPOSITORY, process.env['TALLY_BINARY'] ?? 'target/debug/tally')
  const page = join(REPOSITORY, 'web/dist')
  if (!existsSync(binary)) throw new Error(`${binary} is not there: cargo build --bin tally, or name one in TALLY_BINARY`)
  if (!existsSync(join(page, 'index.html'))) throw new Error(`${page} is not there: npm run build`)
  const dir = mkdtempSync(join(tmpdir(), 'tally-browser-'))
  // Shares without a depth cannot be judged: a way to a dead letter.
  const topology = readFileSync(join(REPOSITORY, 'topology.yaml'), 'utf8')
    .replace('event: share }', 'event: share, where: "properties.depth >= 1" }')
  writeFileSync(join(dir, 'topology.yaml'), topology)
  // deploy/test.sh keeps it where a test has failed.
  const log = join(process.env['TALLY_TEST_LOGS'] ?? dir, `browser-${process.pid}.log`)
  // What the developer has set for a tally of theirs is not for this one.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TALLY_')))
  const keys = Object.fromEntries(
    scopes.map((scope, index) => {
      const args = ['key', '--name', `key-${index}`, '--scope', scope, '--append', 'keys.yaml']
      return [scope, execFileSync(binary, args, { cwd: dir, env }).toString().trim()]
    }),
  )
  const all = ['run', '--listen', '127.0.0.1:0', '--web', page, ...flags]
  if (demo) all.push('--demo', String(demo))
  if (scopes.length > 0) all.push('--keys', 'keys.yaml')
  const child = spawn(binary, all, { cwd: dir, env, stdio: ['ignore', 'pipe', openSync(log, 'a')] })
  const base = await listening(child).catch((error: unknown) => {
    child.kill('SIGKILL')
    throw new Error(`${String(error)}\n${readFileSync(log, 'utf8')}`)
  })
  await until(async () => (await fetch(`${base}/readyz`)).ok, 'tally is ready', START_MS)
  return {
    base,
    keys,
    stop: async () => {
      const ended = new Promise((done) => child.once('exit', done))
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), 12_000)
      await ended
      clearTimeout(timer)
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

function listening(child: ChildProcess): Promise<string> {
  return new Promise((done, failed) => {
    let text = ''
    const timer = setTimeout(() => failed(new Error('tally does not start')), START_MS)
    child.once('exit', (code) => failed(new Error(`tally has ended with ${code}`)))
    child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      const found = /listening on (http:\/\/\S+)/.exec(text)?.[1]
      if (!found) return
      clearTimeout(timer)
      done(found)
    })
  })
}

/** Repeats a check until it holds, since the machine may be busy. */
export async function until(isSo: () => Promise<boolean>, what: string, patienceMs = 120_000): Promise<void> {
  const end = Date.now() + patienceMs
  for (;;) {
    if (await isSo().catch(() => false)) return
    if (Date.now() > end) throw new Error(`waited ${patienceMs} ms until ${what}`)
    await new Promise((done) => setTimeout(done, 25))
  }
}
