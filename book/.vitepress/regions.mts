// `<<< @/../examples/03_wait.cpp#wait{cpp}` shows what stands in that file between the lines `// [wait]` and `// [/wait]`,
// moved to the left edge; without `#wait`, the whole file. `@` is the folder book/, any other path is relative to the
// page. A file or region that is not there ends the build; VitePress' own rule for `<<<` would show the file instead.
import fs from 'node:fs'
import path from 'node:path'
import type MarkdownIt from 'markdown-it'

const include = /^<<<\s+(\S+?)(?:#([\w-]+))?\{(\w+)\}$/
const marker = /^\s*\/\/ \[(\/?)([\w-]+)\]\s*$/

// The lines of `text` in that region, without those that begin or end a region.
export function regionOf(text: string, name: string | undefined): string {
  let lines = text.replace(/\r\n/g, '\n').replace(/\n+$/, '').split('\n')
  if (name) {
    const at = (slash: string) =>
      lines.flatMap((line, i) => {
        const found = marker.exec(line)
        return found && found[1] === slash && found[2] === name ? [i] : []
      })
    const begin = at(''), end = at('/')
    if (begin.length !== 1 || end.length !== 1 || begin[0] > end[0])
      throw new Error(`has ${begin.length} lines "// [${name}]" and ${end.length} lines "// [/${name}]", where one of each, in this order, is a region`)
    lines = lines.slice(begin[0] + 1, end[0])
  }
  lines = lines.filter((line) => !marker.test(line))
  if (!lines.some((line) => line.trim())) throw new Error(name ? `has nothing in its region ${name}` : 'is empty')
  const indents = lines.filter((line) => line.trim()).map((line) => line.length - line.trimStart().length)
  const indent = name ? Math.min(...indents) : 0
  return lines.map((line) => line.slice(indent)).join('\n') + '\n'
}

export function regions(md: MarkdownIt, srcDir: string) {
  const fail = (env: any, line: string, why: string): never => {
    throw new Error(`${env.relativePath ?? env.path}: "${line}": ${why}`)
  }

  md.block.ruler.before('snippet', 'region', (state, startLine, _endLine, silent) => {
    if (state.sCount[startLine] - state.blkIndent >= 4) return false
    const line = state.src.slice(state.bMarks[startLine] + state.tShift[startLine], state.eMarks[startLine]).trim()
    if (!line.startsWith('<<<')) return false
    if (silent) return true
    const { env } = state
    const [, file, name, language] = include.exec(line) ?? fail(env, line, 'is not of the form "<<< FILE#REGION{LANGUAGE}"')
    const page = path.dirname(env.realPath ?? env.path)
    const source = file.startsWith('@/') ? path.join(srcDir, file.slice(2)) : path.resolve(page, file)
    if (!fs.existsSync(source)) fail(env, line, 'there is no such file')
    const token = state.push('fence', 'code', 0)
    try {
      token.content = regionOf(fs.readFileSync(source, 'utf8'), name)
    } catch (e) {
      fail(env, line, `the file ${(e as Error).message}`)
    }
    token.info = language
    token.markup = '```'
    token.map = [startLine, startLine + 1]
    env.includes?.push(source)  // vitepress dev shows the page again when this file changes
    state.line = startLine + 1
    return true
  })

  // Right below a paragraph the line would be text of it.
  md.core.ruler.push('region_in_text', (state) => {
    for (const token of state.tokens)
      if (token.type === 'inline' && /^\s*<<</m.test(token.content))
        fail(state.env, token.content, 'a line "<<<" needs an empty line before it')
  })
}
