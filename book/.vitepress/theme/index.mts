// The default theme in the fonts of the reader's system: nothing is loaded for them.
import Theme from 'vitepress/theme-without-fonts'
import type { Theme as ThemeConfig } from 'vitepress'
import Contents from './Contents.vue'
import Objectives from './Objectives.vue'
import './style.css'

export default {
  extends: Theme,
  enhanceApp({ app }) {
    app.component('Contents', Contents)
    app.component('Objectives', Objectives)
  }
} satisfies ThemeConfig
