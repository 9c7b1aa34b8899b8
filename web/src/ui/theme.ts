// Light or dark: the system's choice until the user chooses here.

import { ref } from 'vue'

type Theme = 'light' | 'dark'
const KEY = 'tally:theme'
const system = matchMedia('(prefers-color-scheme: dark)')

const ofSystem = (): Theme => (system.matches ? 'dark' : 'light')
const chosen = () => document.documentElement.dataset['theme'] as Theme | undefined

/** What is shown now. */
export const theme = ref<Theme>(chosen() ?? ofSystem())

system.addEventListener('change', () => {
  theme.value = chosen() ?? ofSystem()
})

/** Shows the other one. Choosing what the system has is no choice: from then on the system is followed again. */
export function toggleTheme() {
  theme.value = theme.value === 'dark' ? 'light' : 'dark'
  const root = document.documentElement
  const isOfSystem = theme.value === ofSystem()
  if (isOfSystem) delete root.dataset['theme']
  else root.dataset['theme'] = theme.value
  try {
    if (isOfSystem) localStorage.removeItem(KEY)
    else localStorage.setItem(KEY, theme.value)
  } catch {
    // Then it lasts as long as the page.
  }
}
