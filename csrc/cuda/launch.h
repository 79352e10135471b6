// What a kernel's source says in place of CUDA's own syntax, so that a host compiler can read it too: csrc/shim then
// executes the very same kernels on a CPU.
#pragma once

#include <cuda_runtime.h>

#ifndef IQAZOO_LAUNCH  // csrc/shim has its own

// Shared memory of a block: an array `name` of `count` elements, one and the same for all threads of the block. Inside
// a function, which may be a template; a `T` without a comma.
#define IQAZOO_SHARED(T, name, count) __shared__ T name[count]

// Starts a kernel (in parentheses where its name holds a comma) on `stream`; cudaGetLastError() tells of failure. The
// arguments may be evaluated more than once.
#define IQAZOO_LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)

// Shared memory whose size the launch gives: `name` points at its bytes. At most one in a kernel.
#define IQAZOO_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

// IQAZOO_LAUNCH with `bytes` of dynamic shared memory; beyond 48 KiB a kernel must be allowed them first.
#define IQAZOO_LAUNCH_SHARED(kernel, grid, block, bytes, stream, ...)                                     \
  (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) == cudaSuccess        \
       ? (kernel<<<grid, block, bytes, stream>>>(__VA_ARGS__), void())                                    \
       : void())

#endif
