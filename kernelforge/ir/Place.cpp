// What operations say of where in the model they stand.
#include "kernelforge/ir/Transformer.h"

using namespace mlir;
using namespace kernelforge;

Place kernelforge::placeOf(Operation *op) {
  Place place;
  if (auto role = op->getAttrOfType<StringAttr>(roleAttrName))
    place.role = role.str();
  if (auto layer = op->getAttrOfType<IntegerAttr>(layerAttrName))
    place.layer = layer.getInt();
  return place;
}

void kernelforge::setPlace(Operation *op, int64_t layer, StringRef role) {
  Builder builder(op->getContext());
  if (!role.empty())
    op->setAttr(roleAttrName, builder.getStringAttr(role));
  if (layer >= 0)
    op->setAttr(layerAttrName, builder.getI64IntegerAttr(layer));
}

/// Up to the last word that all begin with: of "ffn_gate" and "ffn_up" the four letters "ffn_".
static size_t commonWords(ArrayRef<std::string> roles) {
  StringRef common = roles.front();
  for (StringRef role : roles)
    while (!role.starts_with(common))
      common = common.drop_back();
  return common.rfind('_') + 1; // npos + 1 is 0: no word in common
}

Place kernelforge::joinedPlace(ArrayRef<Operation *> ops) {
  SmallVector<std::string> roles;
  Place joined = placeOf(ops.front());
  for (Operation *op : ops) {
    const Place place = placeOf(op);
    if (place.layer != joined.layer)
      joined.layer = -1;
    if (place.role.empty())
      return {"", joined.layer};
    if (!llvm::is_contained(roles, place.role))
      roles.push_back(place.role);
  }
  if (roles.size() < 2)
    return joined;
  const size_t common = commonWords(roles);
  joined.role = roles.front().substr(0, common);
  const bool areLetters =
      llvm::all_of(roles, [&](const std::string &role) { return role.size() == common + 1; });
  for (auto [i, role] : llvm::enumerate(roles))
    joined.role += (i == 0 || areLetters ? "" : "_") + role.substr(common);
  return joined;
}
