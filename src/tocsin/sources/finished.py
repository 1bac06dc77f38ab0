"""TEMP"""
from tocsin.model import Batch
def read_finished(paths, progress=None, line_ts=None, on_error=None, block_bytes=1<<20):
    for p in paths:
        f=open(p,'rb',buffering=0); off=0; rest=b''; line=1
        while 1:
            b=f.read(block_bytes)
            if not b: break
            k=b.rfind(b'\n')+1
            d=rest+b[:k]; rest=b[k:]
            if d:
                yield Batch(str(p),d,off,line); off+=len(d); line+=d.count(b'\n')
