import { defineConfig } from 'prisma/config'

// Asked for by `prisma generate`, which connects to nothing.
export default defineConfig({ schema: 'schema.prisma', datasource: { url: 'postgresql://nobody@127.0.0.1:1/none' } })
