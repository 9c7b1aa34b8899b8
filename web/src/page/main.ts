import { createApp } from 'vue'
import '../ui/style.css'
import App from './App.vue'

createApp(App).mount('#app')
