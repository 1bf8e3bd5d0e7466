// What the viewer's scripts share, for the type checker alone; nothing of it is in the page.

interface Word { text: string; tokens: number; end: boolean }
interface ModelInfo { name: string; label: string; prediction: string; outcome: string; rule: string; cut: boolean }
interface Choice { query: string; method: string; layer: number | null; head: number | null; residual: number | null; vision: boolean }
interface MapItem extends Choice { model: string; bits: number; offset: number; scale: number[]; prompt?: number[][]; earlier?: number[][] }
interface ImageInfo { src: string; width: number; height: number; original: [number, number] }
interface QualityRow { model: string | null; method: string; residual?: number | null; vision?: boolean; mass: number; area: number; hit: number; roc_auc: number }
interface CaseData {
  id: string; question: string; reference: string; prompt: Word[]; other: string; words: Word[]; models: ModelInfo[];
  grid: number; image: ImageInfo; outline: string; coverage: number[] | null; quality: QualityRow[];
  headline: [string, string][]; facts: [string, string][]; notes: string[]; maps: { index: MapItem[]; data: string };
}
interface OpenCase extends CaseData {
  index: number; buffer: ArrayBuffer; pixels: ImageData; windowed: ImageData;
  cache: Map<MapItem, Float64Array[]>; spans: Map<string, number>;
}
interface MethodInfo { label: string; unit: string; about: string; share: boolean; signed: boolean; whole: boolean }
interface Shared { colours: Record<string, string>; diverging: string[]; methods: Record<string, MethodInfo> }
interface Pane {
  name: string; label: string;
  map(words: number[], wanted?: Choice): Float64Array | null;
  read(words: number[]): Float64Array | null;
  earlier(words: number[]): Float64Array | null;
}
interface State extends Choice {
  view: string; first: string; second: string; words: Set<number>; patches: Set<number>;
  tool: string; zoom: number; x: number; y: number; centre: number; width: number;
}
type Held = { shiftKey: boolean; ctrlKey?: boolean; metaKey?: boolean };
