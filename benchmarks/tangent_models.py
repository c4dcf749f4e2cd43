import jax, jax.numpy as jnp, numpy as np
def mlp(p,x):
    for i,(w,b) in enumerate(p):
        x = x@w+b
        if i<len(p)-1: x=jax.nn.relu(x)
    return x
def mlp_init(key, sizes=(784,512,512,10)):
    out=[]
    for a,b in zip(sizes,sizes[1:]):
        key,k=jax.random.split(key); out.append((jax.random.normal(k,(a,b))/a**.5, jnp.zeros(b)))
    return out
def conv(x,w,s): return jax.lax.conv_general_dilated(x,w,(s,s),'SAME',dimension_numbers=('NHWC','HWIO','NHWC'))
def cnn(p,x):
    for (w,b),s in zip(p['conv'],(1,2,2)):
        x=jax.nn.relu(conv(x,w,s)+b)
    return x.mean((1,2))@p['w']+p['b']
def cnn_init(key,c=(3,32,64,64)):
    ks=jax.random.split(key,4)
    return dict(conv=[(jax.random.normal(ks[i],(3,3,c[i],c[i+1]))/(9*c[i])**.5*1.4, jnp.zeros(c[i+1])) for i in range(3)], w=jax.random.normal(ks[3],(c[3],10))/c[3]**.5,b=jnp.zeros(10))
D,H,T=128,4,32
def norm(p,x):
    m=x.mean(-1,keepdims=True); v=((x-m)**2).mean(-1,keepdims=True)
    return (x-m)*jax.lax.rsqrt(v+1e-5)*p[0]+p[1]
def block(p,x):
    n,t,d=x.shape
    q,k,v=[(x@p[a]+p['b'+a]).reshape(n,t,H,d//H) for a in 'qkv']
    s=jnp.einsum('nthd,nshd->nhts',q,k)/(d//H)**.5
    o=jnp.einsum('nhts,nshd->nthd',jax.nn.softmax(s),v).reshape(n,t,d)@p['o']+p['bo']
    x=norm(p['n1'],x+o)
    h=jax.nn.gelu(x@p['f']+p['bf'])@p['g']+p['bg']
    return norm(p['n2'],x+h)
def transformer(p,x):
    x=x@p['e']+p['pos'][None]
    for b in p['blocks']: x=block(b,x)
    return x.mean(1)@p['w']+p['b']
def tr_init(key):
    ks=iter(jax.random.split(key,40)); g=lambda a,b: jax.random.normal(next(ks),(a,b))/a**.5
    blocks=[]
    for _ in range(2):
        b={a:g(D,D) for a in 'qkvo'}; b|={'b'+a:jnp.zeros(D) for a in 'qkvo'}
        b|=dict(f=g(D,4*D),bf=jnp.zeros(4*D),g=g(4*D,D),bg=jnp.zeros(D),n1=(jnp.ones(D),jnp.zeros(D)),n2=(jnp.ones(D),jnp.zeros(D)))
        blocks.append(b)
    return dict(e=g(16,D),pos=g(T,D)*0.1,blocks=blocks,w=g(D,10),b=jnp.zeros(10))
MODELS=dict(mlp=(mlp,mlp_init(jax.random.key(0)),(784,)),cnn=(cnn,cnn_init(jax.random.key(0)),(32,32,3)),transformer=(transformer,tr_init(jax.random.key(0)),(T,16)))
