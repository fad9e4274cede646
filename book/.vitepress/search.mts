// How the text of a page, and what a reader asks for, is cut into what the search compares. Words are words; the parts of
// an identifier with underscores count as words too. Chinese has no spaces: it is cut into pairs of characters that
// overlap, so that 信号量 becomes 信号 and 号量 and is found wherever it stands in a sentence.
//
// VitePress sends these two functions to the browser as text. So each of them must be complete in itself: nothing
// outside it, not even the other one, is there.

export function tokensOfText(text: string): string[] {
  const tokens: string[] = []
  for (const [run] of text.matchAll(/\p{Script=Han}+|(?:(?!\p{Script=Han})[\p{L}\p{N}_])+/gu)) {
    if (/^\p{Script=Han}/u.test(run)) {
      // With the last character alone, which begins no pair, each character begins a token: one character is a question
      // as well, since the search takes the beginning of a token for the token.
      const characters = [...run]
      for (let i = 0; i < characters.length; ++i) tokens.push(characters[i] + (characters[i + 1] ?? ''))
    } else {
      tokens.push(run)
      if (run.includes('_')) tokens.push(...run.split('_').filter((part) => part))
    }
  }
  return tokens
}

export function tokensOfQuery(query: string): string[] {
  const tokens: string[] = []
  for (const [run] of query.matchAll(/\p{Script=Han}+|(?:(?!\p{Script=Han})[\p{L}\p{N}_])+/gu)) {
    const characters = [...run]
    if (/^\p{Script=Han}/u.test(run) && characters.length > 1) {
      for (let i = 0; i + 1 < characters.length; ++i) tokens.push(characters[i] + characters[i + 1])
    } else {
      tokens.push(run)
      if (run.includes('_')) tokens.push(...run.split('_').filter((part) => part))
    }
  }
  return tokens
}
