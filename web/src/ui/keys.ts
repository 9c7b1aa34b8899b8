// Single-letter shortcuts, disabled while the user types.

import { onBeforeUnmount, onMounted } from 'vue'

export interface Key {
  key: string
  does: string
  run: () => void
}

/** Runs what a key stands for; not within fields, not with Ctrl, Alt or Meta, not beside an open dialog. */
export function useKeys(keys: Key[]) {
  const pressed = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return
    if (event.target instanceof Element && event.target.closest('input, textarea, select, dialog')) return
    const found = keys.find((one) => one.key === event.key)
    if (!found) return
    event.preventDefault()
    found.run()
  }
  onMounted(() => window.addEventListener('keydown', pressed))
  onBeforeUnmount(() => window.removeEventListener('keydown', pressed))
}
