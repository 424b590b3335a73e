/** Returns the words of a list that people have written with commas or spaces. */
export function words(text: string): string[] {
  return text.split(/[\s,]+/).filter(Boolean);
}
