#include "kernelforge/ir/Caches.h"

using namespace kernelforge;

CacheSlot kernelforge::slotOf(transformer::CacheType type) {
  return {*elementTypeOf(type.getElementType()), type.getHeads(), type.getDim()};
}
