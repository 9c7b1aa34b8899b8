// The articles of the page: six short texts that repeat for `article:1` to `article:200`, the subjects of the sample
// traffic.

export interface Article {
  title: string
  lead: string
  text: string[]
}

const ARTICLES: Article[] = [
  {
    title: 'Write it down before you count it',
    lead: 'A counter that is incremented first and recorded later loses whatever happens in between.',
    text: [
      'The tempting order is the wrong one. Increment the number in the cache, write the log when there is time, and everything looks fast until the process dies between the two. Readers have seen the number, the event is lost, and no repair can tell whether it ever happened.',
      'So the event comes first. A click is written to a log that survives a power failure, and only then does the server respond. Everything you see, the number under the heart, the rank on the board, the list of people who liked an article, is computed from that log and can be computed again.',
      'This costs a few milliseconds, and the button hides them. It does not wait for the server: it shows your click at once, and reverts it in the rare case that the server refuses it.',
    ],
  },
  {
    title: 'The same click, twice',
    lead: 'Networks are slow, phones go through tunnels, and people click again.',
    text: [
      'When no response arrives, there are two possibilities that look the same from outside: the request was lost, or the response was. Sending the click again is right in the first case and wrong in the second, unless the server can recognize the duplicate.',
      'Every click on this page gets an id before it is sent. The server remembers the ids for a day. A click with the same id and the same time is the same click, however often it arrives.',
      'That is why this page can store what it could not send, retry in a minute, hand it to the browser when you leave, and try once more tomorrow morning. All of these attempts may succeed. The click counts once.',
    ],
  },
  {
    title: 'A like is a state, not an event',
    lead: 'What counts is what a person wants now, and the latest decision wins.',
    text: [
      'A like that was clicked at noon and arrives at one o’clock must not undo a decision made at half past twelve. So every change carries the time of the click, and for each person and article the latest time wins. A late arrival is compared and discarded.',
      'Only a change of state changes the number. Liking an article twice has no effect. An unlike removes exactly the like that it reverses: from the total, from the hour in which it was given, and from the score on the board.',
      'Numbers that are counted this way cannot fall below zero, and cannot drift.',
    ],
  },
  {
    title: 'One hot article',
    lead: 'Twenty thousand people click the same button in one second. How many times is the number written?',
    text: [
      'Not twenty thousand times. People are distributed over partitions by their ids, so that the clicks of each person stay in order, and every partition adds up the clicks on the article between two commits. What it sends on is one small sum per commit.',
      'The task that keeps the total of the article therefore receives about twenty sums per second from each partition, whether ten people click or ten thousand. A crowd makes the sums larger, not more numerous.',
      'The live view works the same way: it shows not every click, but the number whenever it has changed.',
    ],
  },
  {
    title: 'How long is a read?',
    lead: 'Opening a page is not the same as reading it. Five visible seconds are a modest definition.',
    text: [
      'A tab that was opened in the background has not been read, however long it stays open. The timer of this page runs only while the page is visible: it pauses when you look elsewhere, and continues when you come back. After five seconds it reports a read, once.',
      'A timer in a browser can be manipulated. The server therefore signs the time at which the page was opened, and rejects a read that is longer than the time since then.',
      'For this reason views, visitors and reads are three numbers. The first counts openings, the second people, the third attention.',
    ],
  },
  {
    title: 'What is hot, exactly',
    lead: 'A ranking of what is popular now forgets, by design, at a known rate.',
    text: [
      'A like weighs four, a read two, a view a tenth, and every six hours each of them loses half of its weight. An article that people loved yesterday needs new likes today to stay above one that they are discovering now.',
      'Decaying sums are hard to keep exact. The obvious method rounds a little at every step, and after a million steps the order depends on which click was added first. Here the sums are integers per span of time, so the same likes produce the same scores in any order.',
      'The board beside this text is computed this way. It changes only when the scores do.',
    ],
  },
]

const ARTICLES_MAX = 200

function numberOf(subject_id: string): number | undefined {
  const number = Number(/^article:([1-9]\d{0,8})$/.exec(subject_id)?.[1] ?? Number.NaN)
  return number <= ARTICLES_MAX ? number : undefined
}

/** The text of `article:1` to `article:200`; nothing else has any. */
export function articleOf(subject_id: string): Article | undefined {
  const number = numberOf(subject_id)
  return number === undefined ? undefined : ARTICLES[(number - 1) % ARTICLES.length]
}

/** What a subject is called; without a text, by its id. */
export function titleOf(subject_id: string): string {
  return articleOf(subject_id)?.title ?? subject_id
}

/** The texts repeat: from the second use on, a title does not identify its article, so its id is shown too. */
export function idBesideTitle(subject_id: string): string | undefined {
  const number = numberOf(subject_id)
  return number !== undefined && number > ARTICLES.length ? subject_id : undefined
}
