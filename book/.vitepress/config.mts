import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { defineConfig, type DefaultTheme, type MarkdownRenderer } from 'vitepress'
import { regions } from './regions.mts'
import { tokensOfQuery, tokensOfText } from './search.mts'

const book = path.dirname(path.dirname(fileURLToPath(import.meta.url)))

// The frontmatter's `NAME: value` of a page, quotes taken off.
function field(file: string, name: string): string | undefined {
  const frontmatter = /^---\n(.*?)\n---\n/s.exec(fs.readFileSync(file, 'utf8'))?.[1] ?? ''
  return new RegExp(`^${name}: *(.*?) *$`, 'm').exec(frontmatter)?.[1].replace(/^(["'])(.*)\1$/, '$2')
}

// The chapters by their numbers, then all other pages: those named here in this order, then the rest.
const others = ['asyncio', 'porting', 'inside', 'glossary']
type Item = DefaultTheme.SidebarItem & { minutes?: string, exercise?: string, needs?: string[] }

function sidebar(language: string, chapters: string, besides: string): DefaultTheme.SidebarItem[] {
  const items = (names: string[]): Item[] =>
    names.map((name) => {
      const file = path.join(book, language, name + '.md')
      const title = field(file, 'title')
      if (!title) throw new Error(`${file}: its frontmatter has no title`)
      const number = /^\d+/.exec(name)
      return {
        text: number ? `${number[0]} ${title}` : title,
        link: `/${language}/${name}`,
        minutes: field(file, 'minutes'),
        exercise: field(file, 'exercise_minutes'),
        needs: field(file, 'needs')?.match(/\b\d+(?=_)/g) ?? []
      }
    })
  const place = (name: string) => (others.indexOf(name) + 1 || others.length + 1)
  const names = fs.readdirSync(path.join(book, language))
    .filter((name) => name.endsWith('.md') && name !== 'index.md')
    .map((name) => name.slice(0, -3))
    .sort()
  const isChapter = (name: string) => /^\d/.test(name)
  return [
    { text: chapters, items: items(names.filter(isChapter)) },
    { text: besides, items: items(names.filter((name) => !isChapter(name)).sort((a, b) => place(a) - place(b))) }
  ].filter((group) => group.items.length > 0)
}

// What a page is for, by theme/Objectives.vue, below its title.
function objectives(md: MarkdownRenderer) {
  md.core.ruler.push('objectives', (state) => {
    const title = state.tokens.findIndex((token) => token.type === 'heading_close' && token.tag === 'h1')
    if (title < 0 || !state.env.frontmatter?.objectives) return
    const block = new state.Token('html_block', '', 0)
    block.content = '<Objectives />\n'
    state.tokens.splice(title + 1, 0, block)
  })
}

export default defineConfig({
  title: 'tandem',
  description: 'Coroutines in C++20, for people who know asyncio',
  head: [['link', { rel: 'icon', href: 'data:,' }]],
  srcExclude: ['!(en|zh)/**/*'],
  ignoreDeadLinks: false,
  locales: {
    en: {
      label: 'English',
      lang: 'en',
      link: '/en/',
      themeConfig: {
        sidebar: sidebar('en', 'Chapters', 'Beside the chapters'),
        objectives: { can: 'After this you can', not: 'Not here' }
      }
    },
    zh: {
      label: '简体中文',
      lang: 'zh-CN',
      link: '/zh/',
      description: 'C++20 协程，写给熟悉 asyncio 的人',
      themeConfig: {
        sidebar: sidebar('zh', '各章', '其他'),
        objectives: { can: '读完之后你能', not: '这里不讲' },
        outline: { label: '本页内容' },
        docFooter: { prev: '上一页', next: '下一页' },
        darkModeSwitchLabel: '外观',
        lightModeSwitchTitle: '切换到浅色模式',
        darkModeSwitchTitle: '切换到深色模式',
        sidebarMenuLabel: '目录',
        returnToTopLabel: '回到顶部',
        langMenuLabel: '切换语言',
        skipToContentLabel: '跳到正文',
        notFound: {
          title: '没有这一页',
          quote: '地址可能有误，或者这一页已经改名。',
          linkLabel: '回到首页',
          linkText: '回到首页'
        }
      }
    }
  },
  markdown: {
    config: (md) => {
      regions(md, book)
      objectives(md)
    }
  },
  themeConfig: {
    search: {
      provider: 'local',
      options: {
        miniSearch: {
          options: { tokenize: tokensOfText },
          searchOptions: { tokenize: tokensOfQuery }
        },
        locales: {
          zh: {
            translations: {
              button: { buttonText: '搜索', buttonAriaLabel: '搜索' },
              modal: {
                displayDetails: '显示详细列表',
                resetButtonTitle: '清空',
                backButtonTitle: '关闭搜索',
                noResultsText: '没有找到',
                footer: {
                  selectText: '打开',
                  selectKeyAriaLabel: '回车键',
                  navigateText: '选择',
                  navigateUpKeyAriaLabel: '上箭头',
                  navigateDownKeyAriaLabel: '下箭头',
                  closeText: '关闭',
                  closeKeyAriaLabel: 'Esc 键'
                }
              }
            }
          }
        }
      }
    }
  }
})
