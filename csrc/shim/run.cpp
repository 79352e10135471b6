// Executes grids of blocks of fibres on one CPU thread; cuda_runtime.h beside this tells what for.
#include <cuda_runtime.h>
#include <ucontext.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace iqazoo::shim {
namespace {

constexpr size_t kStack = 64 << 10;
constexpr unsigned kLanes = 32;
constexpr unsigned char kPoison = 0xFF, kGuard = 0xA5;
constexpr size_t kMostShared = 99 << 10;  // bytes of dynamic shared memory that every GPU since sm_80 can give
constexpr size_t kGuardBytes = 256;

enum class State { kReady, kAtBarrier, kInWarp, kEnded };
enum Order { kAscending, kDescending, kRandom };

struct Fibre {
  State state = State::kEnded;
  Site site{};
  unsigned mask = 0, source = 0, ballot = 0;
  uint64_t value = 0;
  // What it brings to gathers, in turns: it may come to the next before all have read this, but not to the one after.
  unsigned char gathered[2][kGathered];
  unsigned gathers = 0;
  uint3 index{};
  ucontext_t context{};
  std::unique_ptr<char[]> stack{new char[kStack]};
};

struct Array {
  size_t bytes, guard;
};

// All of it belongs to the one launch that holds `running`.
std::mutex running;
ucontext_t scheduler;
std::vector<Fibre> fibres;
unsigned threads = 0;  // of a block: as many of the fibres are in use
unsigned current = 0;
void (*kernel)(void*);
void* arguments;
std::map<unsigned char*, Array> shared;  // the arrays that this block has declared
alignas(128) unsigned char dynamic[kMostShared + kGuardBytes];
size_t dynamic_bytes = 0;
Order order = kAscending;
std::mt19937 generator;
cudaError_t last_error = cudaSuccess;
std::string story;

void fail(cudaError_t error, const std::string& text) {
  if (last_error != cudaSuccess) return;
  last_error = error;
  story = text;
}

void run_fibre() {
  kernel(arguments);
  fibres[current].state = State::kEnded;
}

void start_fibre(unsigned i) {
  Fibre& fibre = fibres[i];
  fibre.state = State::kReady;
  fibre.gathers = 0;
  fibre.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
  getcontext(&fibre.context);
  fibre.context.uc_stack.ss_sp = fibre.stack.get();
  fibre.context.uc_stack.ss_size = kStack;
  fibre.context.uc_link = &scheduler;
  makecontext(&fibre.context, run_fibre, 0);
}

void resume(unsigned i) {
  current = i;
  threadIdx = fibres[i].index;
  swapcontext(&scheduler, &fibres[i].context);
}

void wait(State state, Site site) {
  Fibre& fibre = fibres[current];
  fibre.state = state;
  fibre.site = site;
  swapcontext(&fibre.context, &scheduler);
}

std::vector<unsigned> in_order(unsigned count) {
  std::vector<unsigned> turns(count);
  std::iota(turns.begin(), turns.end(), 0u);
  if (order == kDescending) std::reverse(turns.begin(), turns.end());
  if (order == kRandom) std::shuffle(turns.begin(), turns.end(), generator);
  return turns;
}

bool same(Site a, Site b) { return a.line == b.line && !strcmp(a.file, b.file); }

// Whether all threads wait at one barrier; they go on if so.
bool pass_barrier() {
  for (unsigned i = 0; i < threads; ++i) {
    if (fibres[i].state != State::kAtBarrier || !same(fibres[i].site, fibres[0].site)) return false;
  }
  for (unsigned i = 0; i < threads; ++i) fibres[i].state = State::kReady;
  return true;
}

// Whether `other` takes part in the collective where `fibre` waits.
bool meets(const Fibre& other, const Fibre& fibre) {
  return other.state == State::kInWarp && other.mask == fibre.mask && same(other.site, fibre.site);
}

// The lanes of fibre i's warp that its collective needs and that have not ended.
unsigned needed(unsigned i) {
  const unsigned first = i / kLanes * kLanes;
  unsigned lanes = 0;
  for (unsigned lane = 0; lane < kLanes && first + lane < threads; ++lane) {
    if (fibres[first + lane].state != State::kEnded) lanes |= 1u << lane;
  }
  return lanes & fibres[i].mask;
}

// Whether the collective where fibre i waits is complete; its lanes exchange values and go on if so.
bool pass_collective(unsigned i) {
  const unsigned first = i / kLanes * kLanes, lanes = needed(i);
  uint64_t brought[kLanes];
  unsigned ballot = 0;
  memset(brought, kPoison, sizeof brought);
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    if (!(lanes >> lane & 1)) continue;
    if (!meets(fibres[first + lane], fibres[i])) return false;
    brought[lane] = fibres[first + lane].value;
    if (brought[lane]) ballot |= 1u << lane;
  }
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    if (!(lanes >> lane & 1)) continue;
    Fibre& fibre = fibres[first + lane];
    fibre.value = brought[fibre.source % kLanes];
    fibre.ballot = ballot;
    fibre.state = State::kReady;
  }
  return true;
}

bool anyone_passes() {
  bool passed = pass_barrier();
  for (unsigned i = 0; i < threads; ++i) {
    if (fibres[i].state == State::kInWarp) passed |= pass_collective(i);
  }
  return passed;
}

std::string deadlock() {
  std::map<std::string, int> waiting;
  for (unsigned i = 0; i < threads; ++i) {
    const Fibre& fibre = fibres[i];
    const bool ended = fibre.state == State::kEnded;
    ++waiting[ended ? "have ended" : "wait at " + std::string(fibre.site.file) + ":" + std::to_string(fibre.site.line)];
  }
  std::ostringstream text;
  text << "deadlock in block (" << blockIdx.x << ", " << blockIdx.y << ", " << blockIdx.z << ")";
  for (const auto& [where, count] : waiting) text << "; " << count << " threads " << where;
  return text.str();
}

void check_guards() {
  for (const auto& [memory, array] : shared) {
    const unsigned char* guard = memory + array.bytes;
    if (std::any_of(guard, guard + array.guard, [](unsigned char byte) { return byte != kGuard; })) {
      const std::string size = std::to_string(array.bytes);
      fail(cudaErrorUnknown, "a thread wrote past the end of a shared array of " + size + " bytes");
    }
  }
}

void run_block() {
  shared.clear();
  for (unsigned i = 0; i < threads; ++i) start_fibre(i);
  do {
    for (const unsigned i : in_order(threads)) {
      if (fibres[i].state == State::kReady) resume(i);
    }
  } while (last_error == cudaSuccess && anyone_passes());
  for (unsigned i = 0; i < threads; ++i) {
    if (fibres[i].state != State::kEnded) fail(cudaErrorUnknown, deadlock());
  }
  check_guards();
}

bool fits(dim3 grid, dim3 block) {
  const bool some = grid.x && grid.y && grid.z && block.x && block.y && block.z;
  return some && grid.x <= INT32_MAX && grid.y <= 65535 && grid.z <= 65535 && block.z <= 64 &&
         uint64_t{block.x} * block.y * block.z <= 1024;
}

}  // namespace

void launch(dim3 grid, dim3 block, size_t bytes, void (*body)(void*), void* data) {
  const std::lock_guard<std::mutex> alone(running);
  const bool possible = bytes <= kMostShared && fits(grid, block);
  if (!possible) return fail(cudaErrorInvalidConfiguration, "invalid configuration argument");
  kernel = body;
  arguments = data;
  gridDim = grid;
  blockDim = block;
  dynamic_bytes = bytes;
  threads = block.x * block.y * block.z;
  if (fibres.size() < threads) fibres.resize(threads);
  for (const unsigned i : in_order(grid.x * grid.y * grid.z)) {
    blockIdx = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
    if (last_error == cudaSuccess) run_block();
  }
}

void block_barrier(Site site) { wait(State::kAtBarrier, site); }

uint64_t warp_collective(Site site, unsigned mask, uint64_t value, unsigned source, unsigned* ballot) {
  Fibre& fibre = fibres[current];
  if (!(mask >> lane() & 1)) fail(cudaErrorUnknown, "a thread is not in the mask of its own warp collective");
  fibre.mask = mask;
  fibre.value = value;
  fibre.source = source;
  wait(State::kInWarp, site);
  if (ballot) *ballot = fibre.ballot;
  return fibre.value;
}

unsigned lane() { return current % kLanes; }

void warp_gather(Site site, const void* mine, size_t bytes, void* all) {
  const unsigned turn = fibres[current].gathers++, first = current / kLanes * kLanes;
  memcpy(fibres[current].gathered[turn % 2], mine, bytes);
  warp_collective(site, ~0u, 0, lane());
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const bool came = first + lane < threads && fibres[first + lane].gathers > turn;
    if (!came) return fail(cudaErrorUnknown, "a matrix instruction without all lanes of a warp");
    memcpy(static_cast<char*>(all) + lane * bytes, fibres[first + lane].gathered[turn % 2], bytes);
  }
}

unsigned char* dynamic_shared() {
  enter_shared(dynamic, dynamic_bytes, kGuardBytes);
  return dynamic;
}

void enter_shared(void* memory, size_t bytes, size_t guard) {
  auto* start = static_cast<unsigned char*>(memory);
  if (!shared.emplace(start, Array{bytes, guard}).second) return;
  memset(start, kPoison, bytes);
  memset(start + bytes, kGuard, guard);
}

}  // namespace iqazoo::shim

cudaError_t cudaGetLastError() {
  const cudaError_t error = iqazoo::shim::last_error;
  iqazoo::shim::last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : iqazoo::shim::story.c_str();
}

// The order of threads and blocks from now on: 0 ascending, 1 descending, 2 random by `seed`.
extern "C" __attribute__((visibility("default"))) void iqazoo_shim_order(int order, unsigned seed) {
  const std::lock_guard<std::mutex> alone(iqazoo::shim::running);
  iqazoo::shim::order = static_cast<iqazoo::shim::Order>(order);
  iqazoo::shim::generator.seed(seed);
}
