// Sets the theme that was chosen here before, ahead of the first paint. Without a choice the system's holds.
try {
  const chosen = localStorage.getItem('tally:theme')
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen
} catch {
  // No storage, no choice.
}
