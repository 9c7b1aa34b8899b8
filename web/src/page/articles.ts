// What there is to read: a handful of short texts, told apart by the number in the subject's id; as many articles as the
// sample traffic is about.

export interface Article {
  title: string
  lead: string
  text: string[]
}

const ARTICLES: Article[] = [
  {
    title: 'Write it down before you count it',
    lead: 'A counter that is raised first and recorded later forgets whatever happened in between.',
    text: [
      'The tempting order is the wrong one. Raise the number in the cache, tell the log when there is time, and everything looks fast until the process dies between the two. The number was seen, the fact is gone, and no later repair can tell whether it ever was one.',
      'So the fact comes first. A click is a line in a log that survives a power failure, and only then is it answered. Everything that can be seen, the number under the heart, the place on the board, the list of who liked what, is computed from that log and can be computed again.',
      'It costs a few milliseconds. They are hidden behind the button, which does not wait: it shows what you meant, and takes it back in the rare case that nobody would have it.',
    ],
  },
  {
    title: 'The same click, twice',
    lead: 'Networks answer late, phones ride through tunnels, and people press again.',
    text: [
      'When no answer comes there are two possibilities, and from outside they look alike: the request was lost, or the answer was. Sending again is right in the first case and wrong in the second, unless the second sending can be recognised.',
      'Each click here has a name of its own, made where it was made, before anything was sent. Whoever counts remembers the names for a day. A click that comes again under the same name and time is the same click, however often it comes.',
      'That is why this page may keep what it could not send, try again in a minute, hand it to the browser when you leave, and try once more tomorrow morning. All of these may succeed. It counts once.',
    ],
  },
  {
    title: 'A like is a state, not an event',
    lead: 'What counts is what somebody wants now, and the last word on it is the latest one.',
    text: [
      'A like that was pressed at noon and arrives at one must not undo what was decided at half past twelve. So each change carries the time at which it was meant, and for each person and article the latest time wins. What arrives late is heard, compared, and laid aside.',
      'Only a change of state moves the number. Liking what you like already is polite and changes nothing. Taking a like back takes back exactly the one that was given, from the total, from the hour in which it was given, and from the board that it had pushed this article up.',
      'Numbers that are made this way cannot go below zero, and cannot drift.',
    ],
  },
  {
    title: 'One hot article',
    lead: 'Twenty thousand people a second press the same button. How many times is the number written?',
    text: [
      'Not twenty thousand times. People are spread over partitions by their own names, so that each one’s clicks stay in order, and each partition adds up what happened to the article since it last spoke. What travels on is one small sum per partition and moment.',
      'The place where the article’s total is kept therefore hears from each partition some twenty times a second, whether ten people press or ten thousand. A crowd makes the sums larger, not more numerous.',
      'What you see live is the same: not each click, but the number whenever it has changed.',
    ],
  },
  {
    title: 'How long is a read?',
    lead: 'Opening a page is not reading it. Five seconds in front of one’s eyes is a modest definition.',
    text: [
      'A tab that was opened in the background was not read, however long it stays there. So the clock of this page runs only while the page can be seen, stops when you look elsewhere, and goes on when you come back. After five seconds it says so, once.',
      'A clock in a browser can be set to anything. Where it matters the server signs the moment at which the page was opened, and believes no read that is longer than the time since.',
      'Views, visitors and reads are three numbers for this reason. The first counts openings, the second people, the third attention.',
    ],
  },
  {
    title: 'What is hot, exactly',
    lead: 'A list of what is popular now forgets, by design, at a known speed.',
    text: [
      'Each like weighs four, each read two, a view a tenth; and all of them weigh half as much six hours later. An article that was loved yesterday has to be loved again today to stay above one that is being discovered.',
      'Sums of things that fade are awkward to keep: the obvious way rounds a little at every step, and after a million steps the order depends on who was added first. Here the sums are whole numbers over spans of time, so that the same likes give the same scores in any order.',
      'The board beside this text is computed so. It moves when it has reason to.',
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

/** The texts repeat: from the second time on a title does not tell which article it is, so its id goes with it. */
export function idBesideTitle(subject_id: string): string | undefined {
  const number = numberOf(subject_id)
  return number !== undefined && number > ARTICLES.length ? subject_id : undefined
}
